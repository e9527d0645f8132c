"""Clocks that are wrong, and jump: libfaketime, of Debian's ``faketime``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.stage.programs import lacks, program
from tests.stage.topologies import Host

# libfaketime 0.9.10 knows no sleep until some moment of a clock that is not faked, which is how
# Python's sleep is made.
SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n"


class Clock(Host):
    """This machine with a clock of its own, which is ``seconds`` ahead of the real one.

    Only what says the time of day is wrong. What measures how long something takes is right, as
    it is where an administrator or NTP sets a clock.
    """

    def __init__(self, directory: Path, seconds: float = 0) -> None:
        if not sys.platform.startswith("linux"):
            lacks("libfaketime is preloaded as Linux does it")
        program("faketime")
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(SLEEP)
        self._file = directory / "seconds"
        self.set(seconds)
        self.environment = {
            # The loader replaces $LIB by the name that this system has for it.
            "LD_PRELOAD": "/usr/$LIB/faketime/libfaketimeMT.so.1",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(directory),
        }

    def set(self, seconds: float) -> None:
        written = self._file.with_suffix(".new")
        written.write_text(f"{seconds:+}\n")
        written.rename(self._file)
