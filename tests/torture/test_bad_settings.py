"""Bad settings: neither gunicorn nor flask starts with them, and all errors are named at once."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from settings.fields import SAMPLE_SECRET_KEY
from tests.stage.paths import ROOT
from tests.torture.ledger import record, trials

GOOD = {"secret_key": secrets.token_urlsafe(48), "db_password": secrets.token_urlsafe(12)}
# Settings by their error: each is wrong itself, or "=name" makes another one wrong.
BAD: dict[str, dict[str, str]] = {
    "no key": {"secret_key": ""},
    "the sample key": {"secret_key": SAMPLE_SECRET_KEY},
    "a weak key": {"secret_key": "correct-horse-battery-staple-31"},
    "other databases": {
        "database_url": "mysql://root:hunter2@localhost/app",
        "redis_url": "memcached://:hunter2@localhost:11211",
    },
    "broken addresses": {
        "database_url": "postgresql://ana:hunter2@db:port/app",
        "redis_url": "redis+sentinel://:hunter2@watcher/tokens",
    },
    "a weak fallback": {"secret_key_fallbacks": f"{'k' * 32}, {'l' * 31}"},
    "rates": {
        "rate_limit_register": "0 per hour",
        "rate_limit_login": "a-few per minute",
        "rate_limit_create": "7 per fortnight",
        "rate_limit_validate": "unlimited",
    },
    "numbers out of range": {
        "access_token_expire_minutes": "525600",
        "db_port": "65536",
        "redis_timeout_ms": "-77",
        "argon2_memory_kib": "1025",
        "web_threads": "-9",
    },
    "no numbers": {"max_active": "plenty", "trusted_proxies": "every", "docs_enabled": "perhaps"},
    "the origin of everyone": {"cors_origins": "*"},
    "origins that are patterns": {"cors_origins": r"https://app.example.com,https://.*\.example"},
    "a language": {"language": "latin"},
    "a log level": {"log_level": "loudest"},
    "a registration": {"registration": "members-only"},
    "a short token": {"metrics_token": "fifteen-letters"},
    "a window longer than its record": {"idempotency_window_seconds": "301"},
    "a life longer than the longest": {
        "onetime_token_expire_seconds": "3601",
        "=onetime_token_max_seconds": "3600",
    },
}
BAD["all of it"] = {name: value for settings in BAD.values() for name, value in settings.items()}
PROGRAMS = {
    "gunicorn": ["gunicorn", "--config", str(ROOT / "gunicorn.conf.py"), "--bind", "127.0.0.1:0"],
    "flask": ["flask", "--app", str(ROOT / "wsgi.py"), "users", "list"],
}


def start(program: list[str], settings: dict[str, str], directory: Path) -> tuple[int, str]:
    """Run ``program`` with these settings alone; return its exit code and its output."""
    done = subprocess.run(
        [sys.executable, "-m", *program],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def complaint(program: list[str], settings: dict[str, str], directory: Path) -> str | None:
    """The fault in the refusal of ``settings`` by ``program``; None without a fault."""
    given = {**GOOD, **{name.strip("="): value for name, value in settings.items()}}
    code, output = start(program, given, directory)
    named = re.findall(r"^  (\w+): \S", output, re.MULTILINE)
    wanted = sorted(name for name in settings if not name.startswith("="))
    shown = [value for value in {*given.values()} - {""} if len(value) > 1 and value in output]
    if code == 0:
        return "it started"
    if named != wanted:
        return f"it named {named} and not {wanted}"
    if shown or "Traceback" in output:
        return "it showed a value, or a traceback"
    return None


@pytest.mark.timeout(600)  # many starts take minutes on a busy machine
def test_nothing_starts_with_bad_settings(tmp_path: Path) -> None:
    """S14, S24. Guards: settings/fields.py, and sys.exit in gunicorn.conf.py and wsgi.py."""
    # Each with one of the programs, in turn; then with the other one.
    names = ["all of it", *(name for name in BAD if name != "all of it")]
    turns = list(zip(names, itertools.cycle(PROGRAMS), strict=False))
    pairs = list(dict.fromkeys([*turns, *itertools.product(names, PROGRAMS)]))
    pairs = pairs[: trials(len(pairs), 4)]
    with ThreadPoolExecutor(2) as two:
        complaints = list(
            two.map(lambda pair: complaint(PROGRAMS[pair[1]], BAD[pair[0]], tmp_path), pairs)
        )
    found = {pair: why for pair, why in zip(pairs, complaints, strict=True) if why}
    record(
        "Bad settings are refused at the start, all errors named at once and no value shown.",
        n=len(pairs),
        failures=len(found),
        figures=f"{len({name for name, _ in pairs})} configurations, by gunicorn and by flask",
    )
    assert found == {}


@pytest.mark.parametrize(
    "program", [[*PROGRAMS["gunicorn"], "--check-config"], [*PROGRAMS["flask"][:3], "routes"]]
)
def test_good_settings_start(program: list[str], tmp_path: Path) -> None:
    """The twin: without the errors both programs start."""
    code, output = start(program, GOOD, tmp_path)
    assert code == 0, output
