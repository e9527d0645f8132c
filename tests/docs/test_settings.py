"""docs/settings.md and .env.example: every setting of config.py, in both languages."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from config import Config
from settings.addresses import REDIS_SCHEMES
from tests.docs.pages import CODE, IN_ENGLISH, TWINS, either_language, read, table

PAGE = "docs/settings.md"
EXAMPLE = ".env.example"
Listed = list[tuple[str, str | None]]


def shown(default: Any) -> str:
    """A default as the tables write it."""
    if default is dataclasses.MISSING:
        return "required"
    if default is None or default == ():
        return "none"
    return "true" if default is True else "false" if default is False else str(default)


def in_the_table(page: str) -> Listed:
    """Each setting of a page, with its default."""
    listed: Listed = []
    for names, defaults, _ in table(read(page), "`app_name`"):
        values = CODE.findall(defaults) or [IN_ENGLISH.get(defaults, defaults)]
        listed += list(zip(CODE.findall(names), values, strict=True))
    return listed


def in_the_example() -> Listed:
    """Each setting of .env.example, with its default, or None where it has another value."""
    lines = re.findall(r"^(#?)([a-z][a-z0-9_]*)=(.*)$", read(EXAMPLE), re.MULTILINE)
    return [
        (name, (value.strip("'") or "none") if commented else None)
        for commented, name, value in lines
    ]


@pytest.mark.parametrize("source", [PAGE, TWINS[PAGE], EXAMPLE])
def test_settings_are_those_of_config(source: str) -> None:
    """A setting that is added, dropped or given another default in config.py turns this red."""
    listed = in_the_example() if source == EXAMPLE else in_the_table(source)
    fields = {field.name: shown(field.default) for field in dataclasses.fields(Config)}
    assert len(listed) == len(fields)
    assert {name: fields[name] if value is None else value for name, value in listed} == fields


@either_language(PAGE)
def test_addresses_of_redis_are_those_of_config(page: str) -> None:
    """A scheme that is added to REDIS_SCHEMES, or dropped, turns this red."""
    addresses = [row[0] for row in table(read(page), "`redis://…`")]
    assert set(re.findall(r"`([a-z+]+)://", " ".join(addresses))) == REDIS_SCHEMES
