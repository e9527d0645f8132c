"""docs/audit.md: its actions and columns are those of the code, in both languages."""

from __future__ import annotations

import typing

from tests.docs.pages import CODE, either_language, read, table
from tokenservice.audit.events import Action
from tokenservice.audit.models import AuditEvent

PAGE = "docs/audit.md"


@either_language(PAGE)
def test_actions_are_those_of_the_code(page: str) -> None:
    rows = table(read(page), "`account.registered`")
    assert [action for row in rows for action in CODE.findall(row[0])] == [*typing.get_args(Action)]


@either_language(PAGE)
def test_columns_are_those_of_the_table(page: str) -> None:
    columns = AuditEvent.__table__.columns
    rows = table(read(page), "`bigint`")
    assert [name for row in rows for name in CODE.findall(row[0])] == [*columns.keys()]
