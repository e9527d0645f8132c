"""Write what the long run found into docs/reliability.md: ``python -m tests.torture RESULTS``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.torture.ledger import Entry

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- results: written by make torture -->\n", "<!-- end of results -->\n"


def bound(entry: Entry) -> str:
    """The 95 % upper bound of the rate of failure after no failure in n: the rule of three."""
    return f"< {3 / entry.n:.1g}" if entry.n and not entry.failures else ""


def table(entries: list[Entry]) -> str:
    rows = ["| | claim | n | failures | 95 % bound | figures |", "|---|---|---|---|---|---|"]
    rows += [
        f"| {e.item} | {e.claim} | {e.n:,} | {e.failures:,} | {bound(e)} | {e.figures} |"
        for e in entries
    ]
    return "\n".join(rows) + "\n"


def main(results: Path) -> None:
    lines = results.read_text(encoding="utf-8").splitlines()
    # What was run again takes the place of what it came to before.
    latest = {(e.item, e.claim): e for e in (Entry(**json.loads(line)) for line in lines)}
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table(list(latest.values()))}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
