"""The engine on other servers than the default one (.ci/servers unpacks them)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stage.paths import ROOT
from tests.stage.programs import lacks
from tests.torture.ledger import FULL, record

SERVERS = Path(sys.prefix, "servers")
#: The tests of a short run: the histories that a server's own behaviour could break.
SHORT = ("test_crash.py", "test_put_back.py", "test_held.py")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["redis-7.0", "redis-8.2", "valkey-8.0"])
def test_the_engine_passes_its_tests_on(name: str) -> None:
    program = SERVERS / name / "redis-server"
    if not program.exists():
        lacks(name)
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    [version] = re.findall(r"v=([\d.]+)", done.stdout)
    tests = [ROOT / "tests/onetime" / file for file in (SHORT if not FULL else [""])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", *tests],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    closing = done.stdout.strip().splitlines()[-1]
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|error)", closing)}
    record(
        f"the tests of the engine pass on {name.replace('-', ' ')}",
        n=sum(counts.values()),
        failures=counts.get("failed", 0) + counts.get("error", 0),
        figures=version,
    )
    assert done.returncode == 0, done.stdout
    assert counts["passed"] > 10
