"""Markdown pages: their blocks, tables, links, shape and translations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

#: Each English page and its Spanish twin.
TWINS = {
    "README.md": "docs/es/README.md",
    "SECURITY.md": "docs/es/SECURITY.md",
    "docs/tour.md": "docs/es/tour.md",
    "docs/tickets.md": "docs/es/tickets.md",
    "docs/clients.md": "docs/es/clients.md",
    "docs/api.md": "docs/es/api.md",
    "docs/settings.md": "docs/es/settings.md",
    "docs/operations.md": "docs/es/operations.md",
    "docs/containers.md": "docs/es/containers.md",
    "docs/kubernetes.md": "docs/es/kubernetes.md",
    "docs/metrics.md": "docs/es/metrics.md",
    "docs/alerts.md": "docs/es/alerts.md",
    "docs/architecture.md": "docs/es/architecture.md",
    "docs/audit.md": "docs/es/audit.md",
    "docs/traces.md": "docs/es/traces.md",
    "docs/operations/first-deployment.md": "docs/es/operations/first-deployment.md",
    "docs/operations/backup.md": "docs/es/operations/backup.md",
    "docs/operations/upgrade.md": "docs/es/operations/upgrade.md",
    "docs/operations/secrets.md": "docs/es/operations/secrets.md",
    "docs/operations/redis.md": "docs/es/operations/redis.md",
    "docs/operations/resharding.md": "docs/es/operations/resharding.md",
    "docs/operations/capacity.md": "docs/es/operations/capacity.md",
    "docs/operations/incident.md": "docs/es/operations/incident.md",
}
ENGLISH_ONLY = {"docs/engine.md", "docs/reliability.md", "docs/releasing.md"}

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
TABLE = re.compile(r"(?:^\|.*\|\n)+", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
Table = list[list[str]]

IN_ENGLISH = {"obligatoria": "required", "ninguno": "none", "minuto": "minute", "hora": "hour"}


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def either_language(page: str) -> pytest.MarkDecorator:
    """Run a test on an English page and on its twin, as the argument ``page``."""
    return pytest.mark.parametrize("page", [page, TWINS[page]])


def prose(text: str) -> str:
    """All but the code blocks, whose # is no heading and whose | is no table."""
    return FENCED.sub("", text)


def blocks(text: str, language: str) -> list[str]:
    """The code blocks in one language."""
    return [block for named, block in FENCED.findall(text) if named == language]


def tables(text: str) -> list[Table]:
    """The tables, each as its rows of cells, without the line under the header."""
    found = []
    for table in TABLE.findall(prose(text)):
        rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()]
        found.append([rows[0], *rows[2:]])
    return found


def table(text: str, first: str) -> Table:
    """The rows of the one table whose first row contains ``first``."""
    [rows] = [rows for rows in tables(text) if first in rows[1][0] + rows[1][1]]
    return rows[1:]


def anchor(heading: str) -> str:
    """The anchor that a heading gets where the page is shown."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def shape(text: str) -> dict[str, Any]:
    """The parts of a page that do not depend on its language."""
    fenced = FENCED.findall(text)
    return {
        "headings": [len(marks) for marks, _ in HEADING.findall(prose(text))],
        "blocks": [(language, len(block.splitlines())) for language, block in fenced],
        "commands": [block for language, block in fenced if language in ("bash", "console")],
        "tables": [[len(row) for row in rows] for rows in tables(text)],
        "bullets": len(re.findall(r"^(?:-|\d\.) ", text, re.MULTILINE)),
        "code": sorted(set(CODE.findall(prose(text)))),
    }
