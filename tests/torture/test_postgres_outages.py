"""Every call while Postgres is down, hung, slow, locked or read-only: its response and its time.

Token calls need no Postgres for callers known to a worker, because no request waits for Postgres
longer than ``timeouts.REQUEST_SECONDS``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.stage.faults import locked, sql
from tests.stage.proxy import Proxy
from tests.stage.waiting import until
from tests.torture.ledger import trials
from tests.torture.outages import OK, Row, Site, check_alive, check_row, on_the_way
from tokenservice.ops import probes


@contextlib.contextmanager
def read_only(site: Site) -> Iterator[None]:
    with sql(site) as cursor:

        def apply(setting: str) -> None:
            cursor.execute(setting)
            cursor.execute("SELECT pg_reload_conf()")

        apply("ALTER SYSTEM SET default_transaction_read_only = on")
        try:
            until(lambda: site.call("readyz/postgres").outcome != OK)
            yield
        finally:
            apply("ALTER SYSTEM RESET default_transaction_read_only")


#: Longer than a worker caches an account.
STALE = 1.6
LOCKED = dict.fromkeys(("create by a stranger", "login", "register", "me"), "database_unavailable")
ALARM = {"readyz/postgres": "not_ready"}
AWAY = LOCKED | ALARM
NO_WRITES = {"register": "database_unavailable"} | ALARM
# One call at a time waits for Postgres, and finds out for all whether it is back.
SOON = {
    **dict.fromkeys(("create", "validate", "login", "me", "readyz", "readyz/postgres"), 1.0),
    **{"healthz": 0.05, "readyz/redis": 0.5},
}
ROWS = {
    "Postgres refuses": Row(on_the_way("to_postgres", Proxy.refuse), AWAY, SOON, last=STALE),
    "Postgres hangs": Row(on_the_way("to_postgres", Proxy.hang), AWAY, SOON, last=STALE),
    "Postgres is 20 ms slow": Row(on_the_way("to_postgres", lambda to: to.slow(0.02)), {}, SOON),
    "the accounts are locked": Row(locked, LOCKED, SOON, last=STALE),
    # Both workers have checked again by then.
    "Postgres is read-only": Row(read_only, NO_WRITES, SOON, last=probes.LOOK_AGAIN_SECONDS),
}
if trials(100) >= 10:  # Equivalent to a hanging one for the service.
    ROWS["Postgres is 2 s slow"] = Row(
        on_the_way("to_postgres", lambda to: to.slow(2)), AWAY, SOON, last=STALE
    )


@pytest.mark.parametrize("words", ROWS)
def test_every_call_follows_the_failure_policy(words: str, site: Site) -> None:
    check_row(site, words, ROWS[words])


def test_the_process_is_alive_while_postgres_hangs(site: Site) -> None:
    with on_the_way("to_postgres", Proxy.hang)(site):
        check_alive(site, "login", "healthz succeeds while Postgres hangs")
