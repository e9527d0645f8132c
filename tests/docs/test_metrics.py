"""docs/metrics.md: each metric of the page, and its name of the version before."""

from __future__ import annotations

from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from tests.docs.pages import CODE, either_language, read, table, tables
from tests.stage.people import Person
from tokenservice.telemetry.exposition import OLD_NAMES, PREFIX

PAGE = "docs/metrics.md"
#: The labels of a histogram's own.
BUCKET = "le"


def written(page: str) -> dict[str, tuple[str, set[str]]]:
    """The type and the labels of each metric in the tables of a page."""
    rows = [row for table in tables(read(page)) for row in table[1:] if len(row) == 4]
    return {
        CODE.findall(name)[0]: (kind, {*CODE.findall(labels)}) for name, kind, labels, _ in rows
    }


@either_language(PAGE)
def test_the_page_has_each_metric_and_no_other(
    client: FlaskClient, person: Person, page: str
) -> None:
    """Types and labels too. A metric that is added, renamed or dropped turns this red."""
    client.post("/token/create", headers=person.headers)
    found = {}
    told = client.get("/metrics").text
    old = {*OLD_NAMES.values()}
    for family in text_string_to_metric_families(told):
        if family.name in old:
            continue
        name = family.name + "_total" * (family.type == "counter")
        found[name] = family.type, {label for one in family.samples for label in one.labels}
    expected = written(page)
    assert set(found) == set(expected)
    for name, (kind, labels) in found.items():
        assert kind == expected[name][0], name
        assert not labels or labels - {BUCKET} == expected[name][1], name


@either_language(PAGE)
def test_the_page_has_each_old_name(page: str) -> None:
    ends = {
        old: "_total" if f"{PREFIX}{new}_total" in written(page) else ""
        for new, old in OLD_NAMES.items()
    }
    rows = {
        tuple(map(str.strip, (old, new))) for old, new in table(read(page), "`http_requests_total`")
    }
    assert rows == {
        (f"`{old}{ends[old]}`", f"`{PREFIX}{new}{ends[old]}`") for new, old in OLD_NAMES.items()
    }
