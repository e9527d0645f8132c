"""Write the results of a long run into results.md: ``python -m tests.torture FILE``."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path

from tests.torture.ledger import Entry

PAGE = Path(__file__).with_name("results.md")
BEGIN, END = "<!-- results: written by make torture -->\n", "<!-- end of results -->\n"
HEADING = "### "
HEAD = "\n| claim | n | failures | 95 % bound | figures |\n|---|---|---|---|---|\n"


def bound(entry: Entry) -> str:
    """The 95 % upper bound of the failure rate after no failure in n: the rule of three."""
    return f"< {3 / entry.n:.1g}" if entry.n and not entry.failures else ""


def row(entry: Entry) -> str:
    e = entry
    cells = (e.claim, f"{e.n:,}", f"{e.failures:,}", bound(e), e.figures)
    return "| " + " | ".join(cells) + " |\n"


def section(entries: list[Entry]) -> str:
    """The results of one test file, under a heading that names the length of a shortened run."""
    shortened = "" if entries[0].length == 1 else f", at {entries[0].length:g} of its length"
    return f"{HEADING}{entries[0].part}{shortened}\n{HEAD}{''.join(map(row, entries))}\n"


def written(page: str, found: list[Entry]) -> str:
    """The page with the results ``found``: a part replaces its earlier results, the others stay."""
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    sections = {}
    for text in table.split(HEADING)[1:]:
        sections[text.partition("\n")[0].partition(",")[0]] = HEADING + text
    for part, entries in groupby(sorted(found, key=lambda e: e.part), lambda e: e.part):
        sections[part] = section(list({e.claim: e for e in entries}.values()))
    table = "".join(text for _, text in sorted(sections.items()))
    return f"{before}{BEGIN}\n{table}{END}{after}"


def main(results: Path) -> None:
    lines = results.read_text(encoding="utf-8").splitlines()
    found = [Entry(**json.loads(line)) for line in lines]
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
