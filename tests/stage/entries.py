"""The entry points of the service, each as it shows the settings that it has read."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.stage.paths import ROOT

SHOW = (
    "import dataclasses, json; from flask import current_app as app; "
    'print("<<", json.dumps(dataclasses.asdict(app.extensions["Config"])), ">>")'
)
APP = f"from wsgi import app\nwith app.app_context():\n    exec({SHOW!r})\n"
CONFIG = str(ROOT / "gunicorn.conf.py")
#: The words behind the interpreter.
ENTRIES = {
    "gunicorn": ["-m", "gunicorn", "-c", CONFIG, "--check-config", "show:app"],
    "flask": ["-m", "flask", "--app", "wsgi", "shell"],
    "flask, told to skip": ["-m", "flask", "--app", "wsgi", "shell"],
    "make flask": ["-m", "dev", "flask", "--app", "wsgi", "shell"],
}


def run(
    words: list[str], folder: Path, environment: dict[str, str], text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run Python with ``words`` in ``folder``, with this environment and no other."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def start(
    entry: str, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run an entry point in ``folder``."""
    (folder / "show.py").write_text(APP, encoding="utf-8")
    skip = {"FLASK_SKIP_DOTENV": "1"} if "skip" in entry else {}
    return run(ENTRIES[entry], folder, {**skip, **environment}, SHOW + "\n")


def settings(entry: str, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """The settings that an entry point has read."""
    done = start(entry, folder, environment)
    shown = re.search(r"<< (\{.*\}) >>", done.stdout)
    assert shown, done.stdout + done.stderr
    read: dict[str, Any] = json.loads(shown[1])
    return read
