"""The stills of the README in both languages, taken of a running ``make run``.

``python -m tests.dev.stills`` after a change of the page. They are as Chromium writes them; an
optimizer of PNG makes them a third as large.
"""

from __future__ import annotations

import os

from tests.stage.browsing import Visit, chromium
from tests.stage.paths import ROOT

STILLS = {"en": ROOT / "docs" / "demo.png", "es": ROOT / "docs" / "es" / "demo.png"}
WIDTH = 1280


def main() -> None:
    port = int(os.environ.get("PORT", "8000"))
    with chromium() as browser:
        for language, path in STILLS.items():
            page = Visit(browser, port, language, host="127.0.0.1").page
            page.set_viewport_size({"width": WIDTH, "height": 1000})
            page.emulate_media(reduced_motion="reduce")
            page.goto("/demo")
            page.locator("[data-run=race]").click()
            page.locator(".race").wait_for()
            page.locator("main:not([aria-busy])").wait_for()
            page.mouse.move(0, 0)
            box = page.locator(".run").bounding_box()
            assert box
            height = round(box["y"] + box["height"])
            page.screenshot(path=path, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})


if __name__ == "__main__":
    main()
