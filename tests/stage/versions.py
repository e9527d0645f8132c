"""The version of the Redis that the tests run on, and what it can do."""

from __future__ import annotations

import re
import subprocess

import pytest

import dev


def version() -> tuple[int, ...]:
    told = subprocess.run(
        [dev.find_redis(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    [number] = re.findall(r"v=([\d.]+)", told)
    return tuple(map(int, number.split(".")))


def is_valkey() -> bool:
    told = subprocess.run(
        [dev.find_redis(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    return "valkey" in told.lower()


needs_seven = pytest.mark.skipif(version() < (7,), reason="a command of Redis 7")
DEBUG = {} if version() < (7,) else {"enable-debug-command": "yes"}
