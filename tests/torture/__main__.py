"""Write what the long run found into docs/reliability.md: ``python -m tests.torture RESULTS``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.torture.ledger import Entry

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- results: written by make torture -->\n", "<!-- end of results -->\n"
HEAD = "| | claim | n | failures | 95 % bound | figures |\n", "|---|---|---|---|---|---|\n"


def bound(entry: Entry) -> str:
    """The 95 % upper bound of the rate of failure after no failure in n: the rule of three."""
    return f"< {3 / entry.n:.1g}" if entry.n and not entry.failures else ""


def row(entry: Entry) -> str:
    e = entry
    cells = (e.item, e.claim, f"{e.n:,}", f"{e.failures:,}", bound(e), e.figures)
    return "| " + " | ".join(cells) + " |\n"


def item(line: str) -> str:
    """Which part a row of the table belongs to."""
    return line.split(" | ", 1)[0].removeprefix("| ")


def main(results: Path) -> None:
    lines = results.read_text(encoding="utf-8").splitlines()
    # What was run again takes the place of what it came to before.
    latest = {(e.item, e.claim): e for e in (Entry(**json.loads(line)) for line in lines)}
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    # A run of some parts leaves the others as they are.
    done = {entry.item for entry in latest.values()}
    rows = table.splitlines(keepends=True)[len(HEAD) :]
    rows = [line for line in rows if item(line) not in done]
    rows += [row(entry) for entry in latest.values()]
    table = "".join([*HEAD, *sorted(rows, key=item)])
    PAGE.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
