"""The version of the Redis under test, and its features."""

from __future__ import annotations

import re
import subprocess

import pytest

import dev


def version() -> tuple[int, ...]:
    output = subprocess.run(
        [dev.find_redis(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    [number] = re.findall(r"v=([\d.]+)", output)
    return tuple(map(int, number.split(".")))


def is_valkey() -> bool:
    output = subprocess.run(
        [dev.find_redis(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    return "valkey" in output.lower()


needs_seven = pytest.mark.skipif(version() < (7,), reason="a command of Redis 7")
DEBUG = {} if version() < (7,) else {"enable-debug-command": "yes"}
