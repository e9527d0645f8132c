"""The tests that ``make test`` and ``make check`` run."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.stage.paths import ROOT
from tests.stage.programs import needs_program, program

pytestmark = needs_program("make")
NOT_SLOW = '-m "not slow"'


def recipe(target: str, arguments: str) -> list[str]:
    """The commands of a target, with everything installed and nothing run."""
    installed = ("-o", ".venv/.dev", "-o", ".venv/.audit")
    return subprocess.run(
        [program("make"), "--dry-run", *installed, target, f"ARGS={arguments}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


@pytest.mark.parametrize("arguments", ["", "-x", "--durations 9", "-n 0 -x"])
def test_slow_tests_are_left_out(arguments: str) -> None:
    [command] = recipe("test", arguments)
    assert NOT_SLOW in command
    assert command.endswith(arguments)


@pytest.mark.parametrize(
    "arguments", ["-k race", "-krace", "-x -k 'a or b'", "-m slow", "--lf", "tests/torture -x"]
)
def test_chosen_slow_tests_run(arguments: str) -> None:
    [command] = recipe("test", arguments)
    assert NOT_SLOW not in command
    assert command.endswith(arguments)


def test_check_runs_all_tests_and_those_that_measure_time_by_twos() -> None:
    *_, first, second = recipe("check", "")
    [test] = recipe("test", "")
    assert first == test.replace(NOT_SLOW, '-m "not timed"')
    assert second == test.replace(NOT_SLOW, "-m timed -n 2 tests/torture tests/auth")


def test_check_runs_each_test_that_measures_time() -> None:
    """Guard: the folders of its second run."""
    marked = {
        path.parent.name
        for path in (ROOT / "tests").glob("*/*.py")
        if "\n@pytest.mark.timed\n" in path.read_text(encoding="utf-8")
    }
    assert marked <= {"torture", "auth"}


def test_make_hands_nothing_foreign_on() -> None:
    """PIP_USER=1 ended every installation; FLASK_APP chose another application."""
    foreign = ["PIP_USER", "PIP_TARGET", "FLASK_APP", "FLASK_ENV_FILE", "PROMETHEUS_MULTIPROC_DIR"]
    foreign += ["PYTHONDONTWRITEBYTECODE"]
    done = subprocess.run(
        [program("make"), "--eval=show: ; @env", "show"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PIP_INDEX_URL": "kept", **dict.fromkeys(foreign, "1")},
        capture_output=True,
        text=True,
        check=True,
    )
    found = {line.partition("=")[0]: line.partition("=")[2] for line in done.stdout.splitlines()}
    assert {name: found[name] for name in foreign if name in found} == {"PIP_USER": "0"}
    assert found["PIP_INDEX_URL"] == "kept"
