"""The summary of skipped tests, and the one place that looks for programs."""

from __future__ import annotations

import re

from tests.stage.paths import ROOT
from tests.stage.programs import MISSING, PACKAGES, servers, summary


def test_a_summary_names_the_programs_that_are_missing() -> None:
    reasons = ["ip" + MISSING, "haproxy" + MISSING, "no TLS", "ip" + MISSING, "git"]
    assert summary(reasons) == (
        "5 tests were skipped.\n"
        "Not installed: ip (2), haproxy (1). On Debian: apt-get install haproxy iproute2\n"
        "For other reasons, listed above: 2."
    )
    assert summary(["envoy" + MISSING, "ip" + MISSING]).endswith(
        "On Debian: apt-get install iproute2; .ci/servers"
    )
    assert summary(["no TLS"]) == "1 test was skipped.\nFor other reasons, listed above: 1."
    assert summary([]) == ""


def test_programs_are_looked_for_in_one_place() -> None:
    """Else a test would fail, and not be skipped, where a program is missing."""
    looking = {
        path.name
        for path in (ROOT / "tests").rglob("*.py")
        if "shutil.which(" in path.read_text(encoding="utf-8")
    }
    # test_supply_chain asks for a tool of Python.
    assert looking == {"programs.py", "test_programs.py", "test_supply_chain.py"}


def test_ci_installs_every_program() -> None:
    named = re.findall(r"[a-z0-9:-]+", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    for program, package in PACKAGES.items():
        # It runs in bash and calls make, and Redis comes as a wheel.
        if program not in {"bash", "make", "redis-cli"}:
            assert (program if program == package else f"{program}:{package}") in named


def test_servers_are_named_with_their_versions() -> None:
    """Guard: the last line of ``make test``, from which a report of a failure can quote them."""
    named = r"Servers: (Redis|Valkey) [\d.]+ \(/.+\), PostgreSQL \d+ \(/.+\)\."
    assert re.fullmatch(named, servers())
