"""A circuit breaker before Postgres: bounded places, and no waiting while it does not respond."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.errors import ReadOnlySqlTransaction
from sqlalchemy import exc as database

from tokenservice.extensions import db, part

#: The time from a failure to the next trial, one request at a time.
TRY_AGAIN_SECONDS = 0.25
#: The longest wait for a place, counted from the last take or release of one.
STANDSTILL_SECONDS = 0.5
#: The same for the single place after a failure: for a trial that is about to succeed.
TRIAL_SECONDS = 0.1


class NotAsked(database.TimeoutError):
    """Postgres failed a moment ago, or too many requests wait for it."""


class Breaker:
    """The breaker of a process.

    A quarter of the request ``threads`` may wait for Postgres; the rest serve requests that do not
    need it.
    """

    def __init__(self, threads: int) -> None:
        self.places = max(1, threads // 4)
        self._free = threading.Semaphore(self.places)
        self._trial = threading.Semaphore()
        self._moved_at = 0.0
        self._failed_at: float | None = None  # None while Postgres answers.

    @contextmanager
    def asking(self, try_again_seconds: float) -> Iterator[None]:
        """Hold a place in the block, and learn from its outcome.

        :raises NotAsked: Postgres failed less than ``try_again_seconds`` ago, or no place came free
        """
        place = self._take_place(try_again_seconds)
        try:
            yield
        except database.SQLAlchemyError as error:
            self.learn(error)
            raise
        else:
            self._failed_at = None
        finally:
            self._moved_at = time.monotonic()
            place.release()

    def learn(self, error: database.SQLAlchemyError) -> None:
        """Open the circuit if ``error`` means that the next request would wait in vain."""
        if is_away(error):
            self._failed_at = time.monotonic()

    def _take_place(self, try_again_seconds: float) -> threading.Semaphore:
        now = time.monotonic()
        while True:
            failed_at = self._failed_at
            if failed_at is None:
                place, patience = self._free, STANDSTILL_SECONDS
            elif now - failed_at < try_again_seconds:
                raise NotAsked
            else:
                place, patience = self._trial, TRIAL_SECONDS
            if not place.acquire(timeout=max(0.0, self._moved_at + patience - now)):
                raise NotAsked
            if self._failed_at == failed_at:
                self._moved_at = time.monotonic()
                return place
            # Postgres failed, or came back, during the wait.
            place.release()


breaker = part(Breaker)


@contextmanager
def asking(try_again_seconds: float = TRY_AGAIN_SECONDS) -> Iterator[None]:
    """Let a request query Postgres in the block, and hold no connection after it.

    :raises NotAsked: too many requests wait for it, or wait in vain
    """
    with breaker.asking(try_again_seconds):
        try:
            yield
        finally:
            db.session.close()


def is_outage(error: database.SQLAlchemyError) -> bool:
    """Tell a database that is away, slow or read-only from a bug."""
    if isinstance(
        error,
        database.TimeoutError | database.OperationalError | database.InterfaceError,
    ):
        return True
    return isinstance(error, database.DBAPIError) and (
        error.connection_invalidated or isinstance(error.orig, ReadOnlySqlTransaction)
    )


def is_away(error: database.SQLAlchemyError) -> bool:
    """Tell a Postgres that responds to nobody from one that refuses a statement.

    A write may wait for a single row. A read of the accounts waits only where all of them are
    locked, or the server is too slow.
    """
    if not (is_outage(error) and isinstance(error, database.DBAPIError)):
        return False
    answered = getattr(error.orig, "pgcode", None)
    return not answered or (error.statement or "").startswith("SELECT users.")
