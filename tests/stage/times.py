"""Times in responses."""

from __future__ import annotations

import datetime


def moment(text: str) -> datetime.datetime:
    """Read a time that names its zone."""
    read = datetime.datetime.fromisoformat(text)
    assert read.tzinfo
    return read


def seconds_between(early: str, late: str) -> float:
    return (moment(late) - moment(early)).total_seconds()
