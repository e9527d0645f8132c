"""axe-core, which finds what keeps people from reading or using a page."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from tests.stage import node

SOURCE = Path(__file__).parent / "axe"
#: Of its four kinds of findings, the two that stop a person.
SERIOUS = {"serious", "critical"}


def axe(folder: Path) -> str:
    """The script of axe-core, installed into a folder."""
    return (node.installed(SOURCE, folder) / "node_modules/axe-core/axe.min.js").read_text()


def serious(page: Page, script: str, part: str = "html") -> list[str]:
    """The serious findings on a page as it is now: the rule and the HTML of each.

    :param part: the selector of the elements that are looked at
    """
    page.evaluate(script)
    options = {"resultTypes": ["violations"]}
    found = page.evaluate("both => axe.run(...both)", [part, options])["violations"]
    return [
        f"{each['id']}: {element['html']}"
        for each in found
        if each["impact"] in SERIOUS
        for element in each["nodes"]
    ]
