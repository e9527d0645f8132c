"""Measurements as Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the smallest and largest in brackets."""
    chosen = statistics.median(values), min(values), max(values)
    return "{} ({} to {})".format(*(f"{value:,.{digits}f}" for value in chosen))


def table(title: str, heads: str, rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, aligned for a terminal."""
    cells = [heads.split("|"), *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return f"\n{title}\n\n" + "\n".join(lines)
