"""The day of the last use of each service key, written once a day."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import update

from tokenservice.auth.models import ServiceKey
from tokenservice.auth.rights import EPOCH
from tokenservice.extensions import db


def write(key_ids: Collection[str], day: int) -> None:
    """Write that these keys were used on a day, counted since 1970.

    :raises sqlalchemy.exc.SQLAlchemyError: Postgres did not take it
    """
    date = EPOCH + timedelta(days=day)
    # Of several workers the first one writes.
    is_older = ServiceKey.last_used_on.is_distinct_from(date)
    with db.engine.begin() as connection:
        connection.execute(
            update(ServiceKey)
            .where(ServiceKey.id.in_(sorted(key_ids)), is_older)
            .values(last_used_on=date)
        )
