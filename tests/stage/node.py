"""Programs of Node, with packages of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.stage.kept import kept
from tests.stage.programs import program

NPM_CI = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")


def installed(source: Path, folder: Path) -> Path:
    """Copy the files of ``source`` into ``folder``, with the packages of its lock beside them."""
    names = [source / "package.json", source / "package-lock.json"]

    def install(empty: Path) -> None:
        program("node")
        for name in names:
            shutil.copy(name, empty)
        npm = [program("npm"), *NPM_CI]
        done = subprocess.run(npm, cwd=empty, capture_output=True, check=False, timeout=90)
        if done.returncode:
            pytest.skip("no package registry within reach")

    made = shutil.ignore_patterns("node_modules", "dist", "__pycache__")
    shutil.copytree(source, folder, ignore=made, dirs_exist_ok=True)
    (folder / "node_modules").symlink_to(
        kept(f"node-{source.name}", names, install) / "node_modules"
    )
    return folder


def ran(folder: Path, *command: str, told: str = "", **environment: str) -> str:
    """What a command of a folder prints; ``node_modules/.bin`` comes first on its path.

    :param told: its standard input, where a secret belongs
    """
    path = f"{folder / 'node_modules/.bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), **environment},
        input=told,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
