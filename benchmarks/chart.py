"""The rates of the servers as a bar chart, in one self-contained SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import turns
from benchmarks.servers import BEFORE, Row

CHART = Path(__file__).with_name("pairs.svg")
WIDTH, BAR, GAP, LEFT, RIGHT = 640, 26, 14, 130, 150
#: For light and dark pages.
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #57606a }
.bar { fill: #8c959f } .ours { fill: #0969da } line { stroke: #57606a }
@media (prefers-color-scheme: dark) { text { fill: #9198a1 } .ours { fill: #4493f8 } }
"""


def write(rows: Sequence[Row], to: Path = CHART) -> None:
    """Draw the median rate of pairs as a bar, and its range over the turns as a line.

    Without the other revision: its name would mean nothing on a page.
    """
    measured = {
        row.server: [one.rate for one in turns.of(rows, row.server)]
        for row in rows
        if row.kind == "pair" and row.server != BEFORE
    }
    servers = sorted(measured, key=lambda server: -turns.rate(rows, server))
    scale = (WIDTH - LEFT - RIGHT) / max(max(rates) for rates in measured.values())
    parts = []
    for place, server in enumerate(servers):
        top = 40 + place * (BAR + GAP)
        middle, low, high = turns.rate(rows, server), *(f(measured[server]) for f in (min, max))
        kind = "bar ours" if server == "service" else "bar"
        line = top + BAR / 2
        parts += [
            f'<text x="{LEFT - 10}" y="{line + 5:.0f}" text-anchor="end">{server}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{middle * scale:.0f}" '
            f'height="{BAR}"/>',
            f'<line x1="{LEFT + low * scale:.0f}" x2="{LEFT + high * scale:.0f}" '
            f'y1="{line:.0f}" y2="{line:.0f}"/>',
            f'<text x="{LEFT + high * scale + 10:.0f}" y="{line + 5:.0f}">{middle:,.0f}</text>',
        ]
    height = 50 + len(servers) * (BAR + GAP)
    title = "Create and validate: pairs a second, one process each"
    to.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{title}"><style>{STYLE}</style><text x="10" y="22">{title}</text>'
        + "".join(parts)
        + "</svg>\n",
        encoding="utf-8",
    )
