"""``make run`` in a clone of its own: the folder, the command, and what it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.stage.paths import ROOT

#: ``make run`` without make.
LOCAL = [sys.executable, "-m", "dev"]
CODE = (
    *("tokenservice", "settings", "dev", "migrations"),
    *("config.py", "wsgi.py", "gunicorn.conf.py"),
)


def clone_in(parent: Path) -> Path:
    """The code in a folder of its own, below that of another project."""
    folder = parent / "feature%2Flogin"
    folder.mkdir()
    for name in CODE:
        (folder / name).symlink_to(ROOT / name)
    return folder


def printed(run: subprocess.Popen[str]) -> list[str]:
    """The lines of ``make run``, up to the last one before its end."""
    assert run.stdout
    lines: list[str] = []
    while not lines or "Ctrl-C" not in lines[-1]:
        lines.append(run.stdout.readline())
        assert lines[-1], "it ended"
    return lines
