"""Authentication: find the account of a bearer JWT, and cache it while it does not change.

Every view needs a caller unless it is marked :func:`~tokenservice.web.views.public`.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field

from flask import Flask, current_app
from sqlalchemy import exc as database
from sqlalchemy import func, select

from tokenservice.auth import changes
from tokenservice.auth.jwts import Principal, principal_of
from tokenservice.auth.models import User
from tokenservice.extensions import add, db, part
from tokenservice.onetime.values import Party
from tokenservice.postgres.breaker import TRY_AGAIN_SECONDS, asking, is_away, is_outage
from tokenservice.postgres.timeouts import waiting
from tokenservice.telemetry.calls import call
from tokenservice.telemetry.failures import kind
from tokenservice.telemetry.logs import log
from tokenservice.web.problems import Problem
from tokenservice.web.views import is_public

# RFC 6750 section 2.1. A list of several credentials is none of them.
CREDENTIALS = re.compile(r"[A-Za-z0-9._~+/-]+=*")
#: A deactivated account is out within two seconds: this, and the time of the query.
FRESH_SECONDS = 1.5
#: The same while a look at the changes is under way: no caller waits for Postgres before the look
#: has said whether it responds.
FRESH_DURING_A_LOOK_SECONDS = 1.9
#: From the beginning of a look to the next, and the longest time that one takes. Together they are
#: less than the above.
LOOK_EVERY_SECONDS, LOOK_SECONDS = 1.0, 0.8
#: A process without callers for this long looks no more, until one comes.
IDLE_SECONDS = 10.0
#: Requests of known callers leave the next trial of Postgres to others, unless no other comes.
PATIENT_SECONDS = 2.0
REMEMBERED = 10_000


class Watch:
    """Looks at the changes of one Postgres, none of which missed a change.

    :ivar server: the start of that Postgres
    :ivar seen_at: when the last look began; accounts on watch were unchanged since they were read
    """

    __slots__ = ("seen_at", "server")

    def __init__(self, server: object = None) -> None:
        self.server = server
        self.seen_at = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller(Party):
    """The account behind a request, as read at ``read_at`` (seconds, monotonic).

    The last look of its ``watch`` found it unchanged.
    """

    is_active: bool
    read_at: float
    watch: Watch = field(repr=False, compare=False)

    @property
    def as_of(self) -> float:
        return max(self.read_at, self.watch.seen_at)


class Callers:
    """A cache of the principals that called lately, so that a token call costs no Postgres query.

    A thread looks once a second which accounts changed, and all others stay fresh. Without such
    looks each caller is read again when it is no longer fresh.

    While Postgres is away it serves accounts for up to five minutes: a deactivation needs Postgres
    too.

    :param stale_seconds: the age up to which it serves an account without Postgres
    """

    def __init__(self, stale_seconds: float = 300.0) -> None:
        self._stale_seconds = stale_seconds
        self._known: OrderedDict[Principal, Caller] = OrderedDict()
        self._lock = threading.Lock()
        self._watch = Watch()
        self._last: changes.Sight | None = None
        self._looking = self._is_away = False
        self._wanted_at = -math.inf
        self._thread = threading.Thread()
        self._why_not = ""

    def recall(self, principal: Principal) -> Caller | None:
        """The caller if it is cached and fresh, without a lock or a query. It may be disabled."""
        now = self._wanted_at = time.monotonic()
        known = self._known.get(principal)
        limit = FRESH_DURING_A_LOOK_SECONDS if self._looking else FRESH_SECONDS
        return known if known and now - known.as_of < limit else None

    def find(self, principal: Principal) -> Caller | None:
        """The account behind a principal, or None where there is none.

        :raises sqlalchemy.exc.SQLAlchemyError: Postgres is away and no recent copy is cached
        """
        if fresh := self.recall(principal):
            return fresh
        known = self._known.get(principal)
        if known and time.monotonic() - known.as_of >= self._stale_seconds:
            known = None
        self._start_looking()
        # The look has waited for Postgres in place of the callers, and goes on to.
        if known and self._is_away and self._thread.is_alive():
            return known
        try:
            with asking(PATIENT_SECONDS if known else TRY_AGAIN_SECONDS):
                # Another request of the same caller may have read it during the wait.
                return self.recall(principal) or self._read(principal)
        except database.SQLAlchemyError as error:
            if known is None or not is_outage(error):
                raise
            return known

    def _read(self, principal: Principal) -> Caller | None:
        watch = self._watch
        seen_at = watch.seen_at
        read_at = time.monotonic()
        row = db.session.execute(
            select(User.correo, User.is_active, func.pg_postmaster_start_time()).where(
                User.id == uuid.UUID(principal.account)
            )
        ).one_or_none()
        with self._lock:
            self._known.pop(principal, None)
            if row is None:
                return None
            correo, is_active, server = row
            # A look meanwhile may have told of a change after this was read, and a standby, or the
            # server before a failover, knows less than the one that is watched.
            if watch is not self._watch or seen_at != watch.seen_at or server != watch.server:
                watch = Watch()
            found = Caller(
                principal.account, correo, is_active=is_active, read_at=read_at, watch=watch
            )
            self._known[principal] = found
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    def _start_looking(self) -> None:
        """Start the thread, unless it is there: after a fork it is not."""
        if self._thread.is_alive():
            return
        with self._lock, contextlib.suppress(RuntimeError):  # There is no room for a thread.
            if not self._thread.is_alive():
                app = current_app._get_current_object()  # type: ignore[attr-defined]
                self._thread = threading.Thread(target=self._keep_looking, args=(app,), daemon=True)
                self._thread.start()

    def _keep_looking(self, app: Flask) -> None:
        while (now := time.monotonic()) - self._wanted_at < IDLE_SECONDS:
            with app.app_context():
                self._look()
            time.sleep(max(0.0, now + LOOK_EVERY_SECONDS - time.monotonic()))

    def _look(self) -> None:
        """Look once. A look that fails changes nothing: the next one is told of more."""
        began_at = time.monotonic()
        self._looking = True
        try:
            # Like /readyz it takes no place of the breaker, and has a connection of its own.
            with waiting(LOOK_SECONDS):
                sight = changes.look(self._last)
            if sight:
                self._learn(sight, began_at)
            self._is_away = False
            self._report("" if sight else "a standby, or no triggers")
        except database.SQLAlchemyError as error:
            self._is_away = is_away(error)
            if not is_outage(error):
                self._report(kind(error))
        finally:
            self._looking = False

    def _learn(self, sight: changes.Sight, began_at: float) -> None:
        with self._lock:
            if self._last is None or not sight.follows(self._last) or sight.changed is None:
                # Whoever was on watch is as old as its last look, for good.
                self._watch = Watch(sight.server)
            else:
                self._forget(set(sight.changed))
            self._watch.seen_at = began_at
            self._last = sight

    def _forget(self, user_ids: set[str]) -> None:
        """Forget every principal of these accounts."""
        if user_ids:
            # 0.5 ms where all places are taken, once a second at most.
            for principal in [one for one, known in self._known.items() if known.id in user_ids]:
                del self._known[principal]

    def _report(self, why: str) -> None:
        """Write a line when callers begin to cost a query each, and when they end to."""
        if why != self._why_not:
            self._why_not = why
            if why:
                log.warning("callers.unwatched", why=why)
            else:
                log.info("callers.watched")


callers = part(Callers)


def authenticate() -> None:
    """Demand a caller, unless the view is public or the endpoint does not exist.

    :raises Problem: there is none
    """
    asked = call()
    if asked.endpoint is None or is_public(asked.endpoint) or asked.method == "OPTIONS":
        return
    scheme, _, credentials = asked.given.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not credentials:
        raise Problem("not_authenticated")
    if not CREDENTIALS.fullmatch(credentials):
        raise Problem("access_token_invalid")
    asked.caller = load_caller(principal_of(credentials))


def caller() -> Caller:
    """The account of this call."""
    found: Caller = call().caller
    return found


def load_caller(principal: Principal) -> Caller:
    """:raises Problem: the account does not exist, or is disabled"""
    found = callers.find(principal)
    if found is None or not found.is_active:
        raise Problem("access_token_invalid")
    return found


def init_app(app: Flask) -> None:
    add(app, Callers())
    app.before_request(authenticate)
