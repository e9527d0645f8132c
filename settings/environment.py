"""Where settings come from: the environment, and ``.env`` in the current folder.

gunicorn, every ``flask`` command and ``make run`` read them here and nowhere else;
docs/settings.md has the rules.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import click
import dotenv
from click.core import ParameterSource
from dotenv.parser import parse_stream

ENV_FILE = Path(".env")
#: The environment that this process started with, where the system keeps it: on Linux.
START = Path("/proc/self/environ")
#: What Kubernetes injects as REDIS_PORT into the containers beside a Service named redis.
INJECTED = re.compile(r"(tcp|udp|sctp)://\S+:\d+")
#: The languages of gettext, which many systems set: it does not name the setting.
GETTEXT = "LANGUAGE"
LONGEST_SECRET = 1 << 16
#: Set by the flask command itself, and by Python where the locale is C.
NOT_FROM_FILES = {"FLASK_RUN_FROM_CLI", "FLASK_DEBUG", "LC_CTYPE"}


class ConfigError(Exception):
    """One or more settings are missing or wrong; the text names each, never its value."""


def read(
    names: Collection[str], env_file: Path = ENV_FILE
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The values of the settings ``names``, and the mistakes in others of them.

    :raises ConfigError: ``.env`` is there and cannot be read
    """
    values: dict[str, str] = {}
    mistakes: dict[str, list[str]] = {}
    sources = [by_name(own_environment()), by_name(lines_of(env_file))]
    for name in names:
        try:
            if value := chosen(name, sources):
                values[name] = value
        except ValueError as error:
            mistakes[name] = [str(error)]
    return values, mistakes


def own_environment() -> dict[str, str]:
    """The environment without the addresses that Kubernetes adds to it, and without gettext's."""
    return {
        name: value
        for name, value in os.environ.items()
        if name != GETTEXT
        and not (name.isupper() and name.endswith("_PORT") and INJECTED.fullmatch(value))
    }


def lines_of(env_file: Path) -> dict[str, str | None]:
    """The values in ``.env``, as they stand there.

    :raises ConfigError: it is there and cannot be read
    """
    if env_file.is_dir():  # A virtual environment may have that name.
        return {}
    try:
        text = decoded(env_file.read_bytes())
    except FileNotFoundError:
        if env_file.is_symlink():
            raise ConfigError(f"{env_file} is a link to a file that is missing.") from None
        return {}
    except OSError as error:
        raise ConfigError(f"{env_file} cannot be read: {error.strerror}.") from None
    except UnicodeError:
        raise ConfigError(f"{env_file} cannot be read: it is not text in UTF-8.") from None
    values = {}
    for line in parse_stream(io.StringIO(text)):
        if line.error:
            above = line.original.string.partition(line.original.string.strip())[0]
            number = line.original.line + above.count("\n")
            raise ConfigError(f"{env_file} cannot be read: line {number} is not name=value.")
        if line.key:
            values[line.key] = line.value
    return values


def by_name(source: Mapping[str, str | None]) -> dict[str, set[str]]:
    """The values of each name in any case; an empty one counts as not given."""
    found: dict[str, set[str]] = {}
    for name, value in source.items():
        if value:
            found.setdefault(name.lower(), set()).add(value)
    return found


def chosen(name: str, sources: Collection[Mapping[str, set[str]]]) -> str | None:
    """The value of a setting in the first source that has one, or in a file named there.

    :raises ValueError: with the mistake
    """
    values, paths = (
        next((source[spelling] for source in sources if spelling in source), None)
        for spelling in (name, f"{name}_file")
    )
    if values and paths:
        raise ValueError(f"is given, and {name}_file too")
    if paths:
        return content(Path(single(paths)), f"{name}_file")
    return single(values) if values else None


def single(values: Collection[str]) -> str:
    if len(values) > 1:
        raise ValueError("is given in lower and in upper case, with two values")
    (value,) = values
    try:
        value.encode()
    except UnicodeError:
        raise ValueError("is not text in UTF-8") from None
    return value


def content(file: Path, name: str) -> str:
    """The text of a file, without the end of its last line.

    :raises ValueError: with the mistake
    """
    try:
        if not file.is_file():
            raise ValueError(f"{name} is not the path of a file")
        with file.open("rb") as opened:
            text = decoded(opened.read(LONGEST_SECRET + 1)).rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeError:
        raise ValueError(f"{name} is not text in UTF-8") from None
    if not 0 < len(text) < LONGEST_SECRET:
        raise ValueError(f"{name} is empty, or too long")
    return text


def decoded(data: bytes) -> str:
    """:raises UnicodeError: it is not UTF-8; UTF-16 may look like it, but has NULs"""
    text = data.decode("utf-8-sig")
    if "\0" in text:
        raise UnicodeError
    return text


def forget_what_flask_read() -> None:
    """Take out of the environment what the ``flask`` command has put into it from files.

    Before it loads the application it looks for ``.env`` and ``.flaskenv`` in this folder and in
    every folder above: a ``DATABASE_URL`` or ``PGPORT`` there is that of another project.

    :raises ConfigError: that cannot be undone, or the command was told to read a file
    """
    command = click.get_current_context(silent=True)
    if command is None:
        return
    root = command.find_root()
    source = root.get_parameter_source("env_file")
    if source is ParameterSource.COMMANDLINE:
        raise ConfigError("--env-file is not read: give settings in the environment or in .env.")
    try:
        start = {pair.partition("=")[0] for pair in os.fsdecode(START.read_bytes()).split("\0")}
    except OSError:
        if source is ParameterSource.ENVIRONMENT:
            raise ConfigError("FLASK_ENV_FILE is set: take it out of the environment.") from None
        added = likely_added() if root.obj.load_dotenv_defaults else set()
    else:
        added = set(os.environ) - start
    for name in added - NOT_FROM_FILES:
        del os.environ[name]


def likely_added() -> set[str]:
    """The variables that have the value which the files of this folder give them.

    :raises ConfigError: the ``flask`` command has read a file of another folder
    """
    added = set()
    for name in (".flaskenv", ".env"):
        path = dotenv.find_dotenv(name, usecwd=True)
        if path and Path(path).parent != Path.cwd():
            raise ConfigError(f"flask has read {path}. To prevent it, set FLASK_SKIP_DOTENV=1.")
        lines = dotenv.dotenv_values(path, encoding="utf-8") if path else {}
        added |= {key for key, value in lines.items() if value and os.environ.get(key) == value}
    return added
