"""``flask`` commands, and their results."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import click.testing

from config import Config
from tests.stage.paths import ROOT


def flask(
    config: Config, *words: str | bytes, folder: Path, text: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run ``flask``, in a process of its own, with ``text`` on standard input.

    :param variables: more of its environment
    """
    settings = {
        name: str(value)
        for name, value in dataclasses.asdict(config).items()
        if value is not None and value != () and name != "argon2_memory_kib"
    }
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings, **variables},
        input=text,
        capture_output=True,
        timeout=100,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that fails in good order."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: "), line
    return line.removeprefix("Error: ")


def output(result: click.testing.Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(result: click.testing.Result) -> str:
    """The message of a command that fails in good order: no traceback, and a non-zero code."""
    assert result.exit_code in {1, 2}, result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    return result.stderr
