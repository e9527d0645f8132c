"""How many requests may wait for Postgres at once, and that none does while it does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc as database

from tokenservice.server.turns import turns
from tokenservice.web.problems import is_outage

#: After a failure, how soon Postgres is tried again, by one request at a time.
TRY_AGAIN_SECONDS = 0.25
#: How long a request waits for a place, from when the last one was taken or given back. Where that
#: was longer ago, it does not wait at all.
STANDSTILL_SECONDS = 0.5
#: The same for the one place that there is after a failure: for a trial that is about to succeed.
TRIAL_SECONDS = 0.1


class NotAsked(database.TimeoutError):
    """Postgres did not answer lately, or earlier requests still wait for it."""


class Breaker:
    """Stands before Postgres, one for each process.

    A quarter of the request ``threads`` may wait for Postgres, and half of them for a hash (see
    :mod:`tokenservice.passwords`): the rest is for requests that need neither.
    """

    def __init__(self, threads: int) -> None:
        self.places = max(1, threads // 4)
        self._free = threading.Semaphore(self.places)
        self._trial = threading.Semaphore()
        self._moved_at = 0.0
        self._failed_at: float | None = None  # None while Postgres answers.

    @contextmanager
    def asking(self, try_again_seconds: float) -> Iterator[None]:
        """Hold a place in the block, and learn from what becomes of it.

        :raises NotAsked: at once where Postgres failed, unless so much time has passed since
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
        """Break where ``error`` says that the next request would wait in vain."""
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
            if not place.acquire(blocking=False):
                turns.pass_on()
                if not place.acquire(timeout=max(0.0, self._moved_at + patience - now)):
                    raise NotAsked
            if self._failed_at == failed_at:
                self._moved_at = time.monotonic()
                return place
            # While this request waited, Postgres failed, or was found to be back.
            place.release()


def is_away(error: database.SQLAlchemyError) -> bool:
    """Tell a Postgres that answers nobody from one that refuses a statement.

    What a write waits for may be a single row. A read of the accounts waits only where all of them
    are locked, or the server is too slow.
    """
    if not (is_outage(error) and isinstance(error, database.DBAPIError)):
        return False
    answered = getattr(error.orig, "pgcode", None)
    return not answered or (error.statement or "").startswith("SELECT users.")
