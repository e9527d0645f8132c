"""What a page of metrics says."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(page: str) -> Scrape:
    """Each value of a page, by the name and the labels of its series."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(page: str, name: str, **labels: str) -> float:
    """One value of a page; 0 where the page does not have it."""
    lines = [line for line in page.splitlines() if line.startswith(name)]
    return scraped("\n".join([*lines, ""])).get((name, frozenset(labels.items())), 0)
