"""docs/alerts.md: a section for each alert of deploy/observability, and no other."""

from __future__ import annotations

import json
import re

import yaml

from tests.docs.pages import HEADING, either_language, prose, read

PAGE = "docs/alerts.md"
FOLDER = "deploy/observability"
RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load(read(f"{FOLDER}/alerts.yml"))["groups"]
    for rule in group["rules"]
}
PARTS = {PAGE: ("Means", "Look", "Do"), "docs/es/alerts.md": ("Significa", "Mira", "Haz")}


@either_language(PAGE)
def test_each_alert_has_its_section(page: str) -> None:
    """In the order of the rules: what it means, where to look, what to do."""
    text = prose(read(page))
    sections = [title for level, title in HEADING.findall(text) if level == "##"]
    assert sections == [*RULES]
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        assert tuple(re.findall(r"^\*\*(\w+)\.\*\*", section, re.MULTILINE)) == PARTS[page]


def test_each_alert_leads_to_its_section() -> None:
    for name, rule in RULES.items():
        said = rule["annotations"]
        assert set(said) == {"summary", "description", "runbook_url"}
        assert said["runbook_url"] == f"{PAGE}#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")


@either_language(PAGE)
def test_panels_that_the_page_names_exist(page: str) -> None:
    panels = {panel["title"] for panel in json.loads(read(f"{FOLDER}/dashboard.json"))["panels"]}
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", prose(read(page))))
    assert named - {"Dashboards", "Import", "Status", "Targets"} <= panels
