"""Wrong clocks that can jump: libfaketime, of Debian's ``faketime``."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest

from dev import find_redis
from tests.stage.programs import lacks, program
from tests.stage.topologies import Host

#: The loader replaces $LIB by this system's library folder.
LIBRARY = "/usr/$LIB/faketime/libfaketimeMT.so.1"
# libfaketime 0.9.10 breaks a sleep until a moment of a clock that is not faked, and Python's sleep
# is one.
SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n"


class Clock(Host):
    """This machine with a clock of its own, ``seconds`` ahead of the real one.

    Only the time of day is wrong. Monotonic clocks are right, as they are where an administrator
    or NTP sets a clock.
    """

    def __init__(self, directory: Path, seconds: float = 0) -> None:
        if not sys.platform.startswith("linux"):
            lacks("libfaketime needs the preloading of Linux")
        program("faketime")
        if not runs_redis():
            pytest.skip("libfaketime cannot run this redis-server, which has its own allocator")
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(SLEEP)
        self._file = directory / "seconds"
        self.set(seconds)
        self.environment = {
            "LD_PRELOAD": LIBRARY,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(directory),
        }

    @property
    def environment_of_forks(self) -> dict[str, str]:
        """For a program that forks while another of its threads reads the time.

        The child would wait for ever for the lock of the library, which has one for threads alone.
        """
        return {**self.environment, "LD_PRELOAD": LIBRARY.replace("MT", "")}

    def set(self, seconds: float) -> None:
        written = self._file.with_suffix(".new")
        written.write_text(f"{seconds:+}\n")
        written.rename(self._file)


@functools.cache
def runs_redis() -> bool:
    """Whether Redis starts with a false clock: jemalloc reads the time before libfaketime can."""
    command, environment = [find_redis(), "--version"], {"LD_PRELOAD": LIBRARY, "FAKETIME": "+1s"}
    try:
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=5)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return False
    return True
