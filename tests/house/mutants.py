"""Break each guard in turn, in a copy, and show the test that fails.

``python -m tests.house.mutants`` breaks them all; with a word behind it, such as ``lease``, only
those with that word in their name. The next change may remove a guard that no test covers.

Only the tests named beside a guard are run. The whole suite would kill a mutant by accident, and
would not show which test covers which guard.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.house import cuts, guards
from tests.house.guards import Mutant
from tests.stage.paths import ROOT

TESTS = "tests/onetime"
MUTANTS = [*guards.MUTANTS, *cuts.MUTANTS]
# Secrets, servers' data, and large folders of no use to a test.
LEFT_OUT = (".git", ".env", ".venv", ".local", "*_cache", "__pycache__", ".hypothesis", ".coverage")
# One topology is enough: a guard is the same script, or the same line, in all of them.
ALONE = "not sentinel and not cluster"


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return target


def run(root: Path, tests: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """Run ``tests`` on the copy in ``root``; this interpreter has the packages and the Redis."""
    options = ("-x", "-q", "-p", "no:cacheprovider", "-k", ALONE)
    return subprocess.run(
        [sys.executable, "-B", "-m", "pytest", *options, *(f"{TESTS}/{test}" for test in tests)],
        cwd=root,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def killer(mutant: Mutant, source: Path) -> str | None:
    """Break ``mutant``'s guard in a copy of ``source``; return the test that fails, if any."""
    with tempfile.TemporaryDirectory(prefix="mutant") as directory:
        root = copy(source, Path(directory, "copy"))
        mutant.apply(root)
        done = run(root, mutant.tests)
    if done.returncode == 0:
        return None
    red = re.search(rf"^FAILED {TESTS}/(\S+?)(?:\[| - |$)", done.stdout, re.MULTILINE)
    # A mutant that does not even run fails every test, and shows nothing about any of them.
    crippled = "Error compiling script" in done.stdout or "global variable" in done.stdout
    if red is None or crippled:
        raise AssertionError(f"{mutant.guard}: no test ran\n{done.stdout}{done.stderr}")
    return red.group(1)


def main(words: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.guard for word in words)]
    with tempfile.TemporaryDirectory(prefix="unbroken") as directory:
        # All start from this copy, despite edits meanwhile.
        unbroken = copy(ROOT, Path(directory, "copy"))
        for mutant in chosen:
            mutant.broken(unbroken)  # Before the slow runs of the others.
        tests = dict.fromkeys(test for mutant in chosen for test in mutant.tests)
        before = run(unbroken, tests)
        if before.returncode != 0:
            sys.stdout.write(f"The tests are red before anything is broken.\n{before.stdout}")
            return 1
        survivors = 0
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(lambda mutant: killer(mutant, unbroken), chosen)
            for mutant, test in zip(chosen, found, strict=True):
                survivors += test is None
                sys.stdout.write(f"{mutant.guard:52} {test or 'SURVIVED'}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - survivors} of {len(chosen)} guards are tested.\n")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
