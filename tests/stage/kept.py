"""Folders that take seconds to make, shared by workers and by later runs."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.stage.paths import ROOT


def kept(name: str, sources: Iterable[Path], build: Callable[[Path], None]) -> Path:
    """The folder ``name`` of .venv, built anew where one of its sources has changed.

    :param build: fills an empty folder, which then moves to its place
    """
    digest = hashlib.sha256()
    for source in sorted(sources):
        digest.update(f"{source.relative_to(ROOT)} ".encode() + source.read_bytes())
    folder = ROOT / ".venv" / f"{name}-{digest.hexdigest()[:16]}"
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in folder.parent.glob(f"{name}-*"):
                shutil.rmtree(old)
            work = folder.with_name(f"{name}-unfinished")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            build(work)
            work.rename(folder)
    return folder
