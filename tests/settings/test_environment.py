"""One reading of the settings: the same file and environment mean the same to every entry point."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config import Config
from dev.server import free_port
from settings.environment import ConfigError
from tests.stage.entries import ENTRIES, SHOW, run, settings, start
from tests.stage.paths import ROOT
from tests.stage.programs import lacks, needs

SECRET_KEY = secrets.token_urlsafe(48)
GIVEN = {
    "secret_key": SECRET_KEY,
    "database_url": "postgresql://u:p@h/d",
    "redis_url": "redis://h/1",
}
# As people write it: a BOM, CRLF, export, blanks around "=", quotes, "#" and "$" inside.
AWKWARD = (
    "\ufeff# Settings\r\n"
    f"export secret_key='{SECRET_KEY}'\r\n"
    "APP_NAME = 'Vales #1 de $HOME y ${HOME} ñ'   # said aloud\r\n"
    "db_password='p#a$$word'\r\n"
    "RATE_LIMIT_LOGIN=OFF\n"
    "LOG_LEVEL=WARNING # loud\n"
    "metrics_token=diecisiete#letras\n"
    "cors_origins=\n"
    "\n"
    'rate_limit_create="7 per hour" # "quoted"\n'
    "WEB_THREADS=5\n"
    "redis_timeout_ms=170\n"
    "drain_seconds=9\n"
)
MEANT = {
    "app_name": "Vales #1 de $HOME y ${HOME} ñ",
    "db_password": "p#a$$word",
    "rate_limit_login": "off",
    "log_level": "warning",
    "metrics_token": "diecisiete#letras",
    "cors_origins": [],
    "rate_limit_create": "7 per hour",
    "web_threads": 5,
    "redis_timeout_ms": 170,
}
# Both spellings, an empty one, what Kubernetes injects beside a Service, and a secret in a file.
AROUND = {
    "database_url": "postgresql://u:p@mine/d",
    "REDIS_URL": "redis://mine/1",
    "redis_timeout_ms": "",
    "REDIS_PORT": "tcp://10.96.3.4:6379",
    "DB_PORT": "tcp://[fd00::1]:5432",
    "DRAIN_SECONDS": "4",
    "max_active_file": "max_active",
    "HOME": "/home/ana",
}
IN_FILE = (
    "DATABASE_URL=postgresql://u:p@other/d\n"
    "redis_url=redis://other/1\n"
    "docs_enabled=false\n"
    "app_name=overridden\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder below another project's."""
    below = tmp_path / "other" / "clone"
    below.mkdir(parents=True)
    return below


def hostile(folder: Path, **lines: str) -> None:
    """Give the folders above, and only them, these lines."""
    text = "".join(f"{name}={value}\n" for name, value in lines.items())
    (folder.parent / ".env").write_text(text)
    (folder.parent / ".flaskenv").write_text(text)


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_awkward_file_and_environment_mean_the_same_everywhere(entry: str, folder: Path) -> None:
    (folder / ".env").write_bytes((AWKWARD + IN_FILE.replace("app_name", "#")).encode())
    (folder / "max_active").write_bytes("\ufeff77\r\n".encode())
    hostile(folder, MAX_ACTIVE="1", docs_enabled="true", RECEIPT_SECONDS="99", secret_key="x" * 40)
    meant = {
        **json.loads(json.dumps(dataclasses.asdict(Config(secret_key=SECRET_KEY)))),
        **MEANT,
        "database_url": "postgresql://u:p@mine/d",
        "redis_url": "redis://mine/1",
        "docs_enabled": False,
        "max_active": 77,
        "drain_seconds": 4,
    }
    assert settings(entry, folder, AROUND) == meant


def test_compose_passes_an_awkward_file_on_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the addresses, which docker-compose.yml sets itself. Names are in lower case."""
    compose = Path(sys.prefix, "bin", "docker-compose")
    if not compose.exists():
        lacks("docker-compose is not installed")
    awkward = re.sub("[A-Z_]+ ?=", lambda name: name[0].lower(), AWKWARD)
    (tmp_path / ".env").write_bytes((awkward + "redis_password='r'\n").encode())
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    done = subprocess.run(
        [compose, "config", "--format", "json", "--no-interpolate=false"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": "/home/ana"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    inside = json.loads(done.stdout)["services"]["app"]["environment"]
    for name in os.environ:
        if name.lower() in Config.names():
            monkeypatch.delenv(name)
    for name, value in inside.items():
        # The output could be read again, so a "$" stands there twice.
        monkeypatch.setenv(name, value.replace("$$", "$"))
    config = dataclasses.asdict(Config.from_env(tmp_path / "no-file"))
    passed = {
        name: value for name, value in json.loads(json.dumps(config)).items() if name in MEANT
    }
    assert passed == MEANT


@pytest.mark.parametrize("environment", [{}, {"FLASK_ENV_FILE": "more.env"}])
def test_flask_takes_nothing_from_the_folders_above(
    folder: Path, environment: dict[str, str]
) -> None:
    """Guard: ``forget_what_flask_read`` in wsgi.py. PGPORT would lead to another server."""
    alien = {"DATABASE_URL": "postgresql://u:p@alien/d", "redis_host": "alien", "PGPORT": "1"}
    hostile(folder, secret_key_file="/dev/null", DB_HOST="alien", **alien)
    (folder / "more.env").write_text("db_name=alien\nPGHOSTADDR=192.0.2.1\n")
    (folder / ".env").write_text("db_user='a${PGPORT}'\n")
    given = {"secret_key": SECRET_KEY, "PGUSER": "mine", **environment}
    assert settings("flask", folder, given) == settings("gunicorn", folder, given)
    shown = "import os; print(sorted(name for name in os.environ if name.startswith('PG')))"
    done = run(["-m", "flask", "shell"], folder, given, shown)
    assert "['PGUSER']" in done.stdout, done.stderr


def test_a_file_that_flask_is_told_to_read_is_refused(folder: Path) -> None:
    """It would be one more source, which gunicorn does not have."""
    (folder / "more.env").write_text("db_name=alien\n")
    done = run(["-m", "flask", "--env-file", "more.env", "users", "list"], folder, GIVEN)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "--env-file is not read: give settings in the environment or in .env."
    ]


# What a start needs a clear line for: the bytes of .env, and the line.
UNREADABLE = {
    "latin-1": "app_name=Señales\n".encode("latin-1"),
    "utf-16": "app_name=Vales\n".encode("utf-16"),
    "utf-16 without a mark": "app_name=Vales\n".encode("utf-16-le"),
    "an open quote": b"\napp_name=a\n\ndatabase_url='postgresql://hunter2@h/d\n",
    "a loop of links": b"",
    "a link to nowhere": b"",
}
LINES = {
    "an open quote": ".env cannot be read: line 4 is not name=value.",
    "a loop of links": ".env cannot be read: Too many levels of symbolic links.",
    "a link to nowhere": ".env is a link to a file that is missing.",
}


def spoil(folder: Path, how: str) -> str:
    """Write such a ``.env``; return the line about it."""
    file = folder / ".env"
    file.unlink(missing_ok=True)
    if "link" in how:
        file.symlink_to(".env" if "loop" in how else "nowhere")
    else:
        file.write_bytes(UNREADABLE[how])
    return LINES.get(how, ".env cannot be read: it is not text in UTF-8.")


STARTS = ("gunicorn", "flask, told to skip", "make flask", "make run")
#: Every start with one of each kind of mistake, and every mistake with one start.
EACH = list(itertools.product(STARTS, ("an open quote", "a loop of links")))
EACH += zip(itertools.cycle(STARTS), UNREADABLE, strict=False)


@pytest.mark.parametrize(("entry", "how"), sorted(set(EACH)))
def test_an_unreadable_file_is_one_clear_line(entry: str, how: str, folder: Path) -> None:
    line = spoil(folder, how)
    make_run = ["-m", "dev", str(free_port())]
    done = run(make_run, folder, GIVEN) if entry == "make run" else start(entry, folder, GIVEN)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [line]


def test_a_virtual_environment_named_like_the_file_is_no_file(folder: Path) -> None:
    (folder / ".env").mkdir()
    assert start("gunicorn", folder, GIVEN).returncode == 0


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No setting but a key in the environment, and no ``.env``."""
    for name in list(os.environ):
        if name.lower().removesuffix("_file") in Config.names():
            monkeypatch.delenv(name)
    monkeypatch.setenv("secret_key", SECRET_KEY)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def mistakes() -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Config.from_env()
    return str(caught.value).splitlines()[1:]


def test_a_setting_may_be_a_file(alone: pytest.MonkeyPatch) -> None:
    """As Docker and Kubernetes mount secrets."""
    alone.delenv("secret_key")
    Path("key").write_text(SECRET_KEY + "\n")
    Path("password").write_bytes(" ñ p#'$x \r\n".encode())
    alone.setenv("SECRET_KEY_FILE", str(Path("key").absolute()))
    Path(".env").write_text("db_password_file=password\n")
    config = Config.from_env()
    assert (config.secret_key, config.db_password) == (SECRET_KEY, " ñ p#'$x ")


@pytest.mark.parametrize(
    ("outside", "inside"),
    [("DB_PASSWORD", "db_password_file"), ("DB_PASSWORD_FILE", "db_password")],
)
def test_a_setting_and_its_file_are_not_both_given(
    outside: str, inside: str, alone: pytest.MonkeyPatch
) -> None:
    Path("password").write_text("hunter2")
    alone.setenv(outside, "password")
    Path(".env").write_text(f"{inside}=password\n")
    assert mistakes() == ["  db_password: is given, and db_password_file too"]


@pytest.mark.parametrize(
    ("made", "mistake"),
    [
        (None, "is not the path of a file"),
        (b"", "is empty, or too long"),
        (b"\n", "is empty, or too long"),
        (b"x" * 70_000, "is empty, or too long"),
        ("señal".encode("latin-1"), "is not text in UTF-8"),
        ("clave".encode("utf-16-le"), "is not text in UTF-8"),
    ],
)
def test_a_file_without_a_value_is_named(
    made: bytes | None, mistake: str, alone: pytest.MonkeyPatch
) -> None:
    alone.delenv("secret_key")
    alone.setenv("secret_key_file", "hunter2")
    if made is not None:
        Path("hunter2").write_bytes(made)
    assert mistakes() == [f"  secret_key: secret_key_file {mistake}"]


def test_what_is_no_file_is_not_read(alone: pytest.MonkeyPatch) -> None:
    """A pipe without a writer would stop the start, and /dev/zero would never end."""
    os.mkfifo("pipe")
    alone.setenv("db_password_file", "pipe")
    alone.setenv("metrics_token_file", "/dev/zero")
    assert [line.split()[0] for line in mistakes()] == ["db_password:", "metrics_token:"]


def test_two_spellings_with_two_values_are_named(alone: pytest.MonkeyPatch) -> None:
    """Which of them counted was chance: the order of the environment."""
    alone.setenv("DB_HOST", "one")
    alone.setenv("db_host", "two")
    alone.setenv("DB_NAME", "same")
    alone.setenv("db_name", "same")
    Path(".env").write_text("web_threads=3\nWEB_THREADS=4\n")
    both = "is given in lower and in upper case, with two values"
    assert mistakes() == [f"  db_host: {both}", f"  web_threads: {both}"]


def test_a_value_in_the_environment_is_text(alone: pytest.MonkeyPatch) -> None:
    """As a shell in Latin-1 exports it."""
    alone.setitem(os.environb, b"app_name", "Señales".encode("latin-1"))
    assert mistakes() == ["  app_name: is not text in UTF-8"]


@pytest.mark.parametrize("address", ["tcp://10.96.3.4:6379", "udp://[fd00::4]:53", "sctp://h:1"])
def test_what_kubernetes_injects_is_not_given(address: str, alone: pytest.MonkeyPatch) -> None:
    alone.setenv("REDIS_PORT", address)
    alone.setenv("DB_PORT", address)
    assert (Config.from_env().redis_port, Config.from_env().db_port) == (6379, 5432)
    alone.setenv("redis_port", "6380")
    alone.setenv("redis_url", "redis://h/0")
    assert Config.from_env().redis_port == 6380


@pytest.mark.parametrize("value", ["en_US:en", "en", "C"])
def test_the_languages_of_gettext_are_not_the_setting(
    value: str, alone: pytest.MonkeyPatch
) -> None:
    """Many systems set LANGUAGE. Guard: ``GETTEXT`` in own_environment()."""
    alone.setenv("LANGUAGE", value)
    assert Config.from_env().language == "es"
    Path(".env").write_text("LANGUAGE=en\n")
    assert Config.from_env().language == "en"
    alone.setenv("language", "es")
    assert Config.from_env().language == "es"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_port", "tcp://10.96.3.4:6379"),
        ("REDIS_PORT", "tcp://6379"),
        ("REDIS_DB", "tcp://10.96.3.4:6379"),
    ],
)
def test_what_resembles_it_is_refused(name: str, value: str, alone: pytest.MonkeyPatch) -> None:
    alone.setenv(name, value)
    assert [line.split()[0] for line in mistakes()] == [f"{name.lower()}:"]


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("LOG_LEVEL", "INFO", "info"),
        ("log_level", " Debug ", "debug"),
        ("rate_limit_login", "OFF", "off"),
        ("RATE_LIMIT_CREATE", "60 Per MINUTE", "60 per minute"),
        ("DOCS_ENABLED", "False", False),
    ],
)
def test_words_mean_the_same_in_any_case(
    name: str, value: str, read: Any, alone: pytest.MonkeyPatch
) -> None:
    alone.setenv(name, value)
    assert getattr(Config.from_env(), name.lower()) == read


HIDDEN = 'exec unshare --mount sh -c \'mount -t tmpfs none /proc && exec "$@"\' sh "$@"'


def without_proc(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a ``flask`` command where no environment of the start can be read."""
    return subprocess.run(
        ["/bin/sh", "-c", HIDDEN, "sh", sys.executable, *ENTRIES["flask"]],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **GIVEN, **environment},
        input=SHOW + "\n",
        capture_output=True,
        text=True,
        check=False,
    )


@needs(os.geteuid() == 0, "only root can hide /proc")
def test_what_cannot_be_told_apart_is_refused(folder: Path) -> None:
    """On a system without /proc. Guard: ``likely_added``."""
    (folder / ".env").write_text("app_name='a${HOME}'\nDATABASE_URL=postgresql://u:p@other/d\n")
    done = without_proc(folder, HOME="/home/ana")
    assert '"app_name": "a${HOME}"' in done.stdout, done.stderr
    assert f'"database_url": "{GIVEN["database_url"]}"' in done.stdout

    done = without_proc(folder, FLASK_ENV_FILE=".env")
    assert done.stderr == "FLASK_ENV_FILE is set: take it out of the environment.\n"

    hostile(folder, PGPORT="1")
    done = without_proc(folder)
    assert done.stderr == (
        f"flask has read {folder.parent}/.flaskenv. To prevent it, set FLASK_SKIP_DOTENV=1.\n"
    )
    assert "<< {" in without_proc(folder, FLASK_SKIP_DOTENV="1").stdout
