"""Coverage-guided fuzzing of the parsers."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stage.paths import ROOT
from tests.stage.programs import needs
from tests.torture import ledger

pytestmark = needs(importlib.util.find_spec("atheris"), "atheris has no wheel for this platform")

#: The longest time of one call; the short run shares its machine.
HANG_SECONDS = 1 if ledger.FULL else 10
MOST_SECONDS = 7200 if ledger.FULL else 2


def fuzz(target: str, runs: int, directory: Path, seconds: int = MOST_SECONDS) -> tuple[int, str]:
    """Fuzz ``target``; return the number of executions, and the output of a failure or ""."""
    corpus = directory / "corpus"
    corpus.mkdir()
    options = [
        f"-runs={runs}",
        f"-max_total_time={seconds}",
        f"-timeout={HANG_SECONDS}",
        f"-artifact_prefix={directory}/",
        "-print_final_stats=1",
        # The short run tries the same inputs each time, the full run new ones.
        *(["-seed=7"] if not ledger.FULL else []),
        str(corpus),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture.fuzz", target, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 300,
        check=False,
    )
    ran = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    output = done.stdout[-3000:] + done.stderr[-3000:]
    return int(ran[1]) if ran else 0, output if done.returncode or not ran else ""


CLAIMS = {
    "token": (8_000_000, "Bytes are parsed as a token only in its exact spelling"),
    "body": (1_000_000, "No body raises an undeclared exception, in JSON and in schemas"),
    "address": (
        1_000_000,
        "No text has two canonical spellings, or raises an undeclared exception",
    ),
}


@pytest.mark.parametrize("target", CLAIMS)
def test_no_input_breaks_a_parser(target: str, tmp_path: Path) -> None:
    """Guards: ``format.taken_apart``; ``strictjson.loads`` and ``fields``; ``emails.canonical``."""
    runs, claim = CLAIMS[target]
    ran, wrong = fuzz(target, ledger.trials(runs), tmp_path)
    figures = f"each within {HANG_SECONDS} s; guided by coverage"
    ledger.record(claim, n=ran, failures=int(bool(wrong)), figures=figures)
    assert not wrong, wrong
    assert ran >= (runs if ledger.FULL else 1)


def test_a_parser_without_its_checksum_is_caught(tmp_path: Path) -> None:
    """The twin: the same target with a parser that checks the shape alone. It ends at a find."""
    ran, wrong = fuzz("token_without_checksum", 100_000, tmp_path, seconds=60)
    assert ran
    assert "Uncaught Python exception" in wrong
