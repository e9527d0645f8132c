"""Callers: the accounts and keys behind verified credentials, cached while they do not change."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from flask import Flask, current_app
from sqlalchemy import ColumnElement, Select, and_, exists, func, select
from sqlalchemy import exc as database

from tokenservice.auth import changes, uses
from tokenservice.auth.jwts import Principal
from tokenservice.auth.models import ServiceKey, Session, User
from tokenservice.auth.rights import Key, today
from tokenservice.extensions import add, db, part
from tokenservice.onetime.values import Party
from tokenservice.postgres.breaker import TRY_AGAIN_SECONDS, asking, is_away, is_outage
from tokenservice.postgres.timeouts import waiting
from tokenservice.telemetry.failures import kind
from tokenservice.telemetry.logs import log

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

    :param is_active: whether neither the account nor the session has ended
    :param session: the id of the session that the request is part of, if it is
    :param key: the key that the request presents; None for a person
    """

    is_active: bool
    read_at: float
    watch: Watch = field(repr=False, compare=False)
    session: str = ""
    key: Key | None = None

    @property
    def as_of(self) -> float:
        return max(self.read_at, self.watch.seen_at)

    @property
    def is_current(self) -> bool:
        """Whether neither the account nor the key has ended."""
        return self.is_active and (self.key is None or self.key.is_current)

    def demand_scope(self, scope: str) -> None:
        """:raises Problem: the key of this call lacks it"""
        if self.key:
            self.key.demand_scope(scope)

    def demand_purpose(self, purpose: str) -> None:
        """:raises Problem: the key of this call may not create or consume tokens of it"""
        if self.key:
            self.key.demand_purpose(purpose)


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
        self._used: set[str] = set()

    def recall(self, principal: Principal) -> Caller | None:
        """The caller if it is cached and fresh, without a lock or a query. It may have ended."""
        now = self._wanted_at = time.monotonic()
        known = self._known.get(principal)
        limit = FRESH_DURING_A_LOOK_SECONDS if self._looking else FRESH_SECONDS
        return known if known and now - known.as_of < limit else None

    def find(self, principal: Principal, *, anew: bool = False) -> Caller | None:
        """The account behind a principal, or None where there is none.

        :param anew: ask Postgres, whatever is cached
        :raises sqlalchemy.exc.SQLAlchemyError: Postgres is away and no recent copy is cached
        """
        began_at = time.monotonic()
        if not anew and (fresh := self.recall(principal)):
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
                fresh = self.recall(principal)
                if fresh and (not anew or fresh.read_at >= began_at):
                    return fresh
                return self._read(principal)
        except database.SQLAlchemyError as error:
            if known is None or not is_outage(error):
                raise
            return known

    def _read(self, principal: Principal) -> Caller | None:
        watch = self._watch
        seen_at = watch.seen_at
        read_at = time.monotonic()
        row = db.session.execute(query_of(principal)).one_or_none()
        with self._lock:
            self._known.pop(principal, None)
            if row is None:
                return None
            user_id, correo, is_active, server, *keys = row
            # A look meanwhile may have told of a change after this was read, and a standby, or the
            # server before a failover, knows less than the one that is watched.
            if watch is not self._watch or seen_at != watch.seen_at or server != watch.server:
                watch = Watch()
            found = Caller(
                str(user_id),
                correo,
                principal.key,
                is_active=is_active,
                read_at=read_at,
                watch=watch,
                session=principal.session,
                key=Key.of(keys[0], principal.scope) if keys else None,
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
                self._note_uses()
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

    def used(self, key: Key) -> None:
        """Remember that a key was used today, for the next look to write."""
        if key.used_on != today():
            self._used.add(key.id)

    def _note_uses(self) -> None:
        """Write the day of the last use of keys. One that fails is not tried again: no matter."""
        if not self._used:
            return
        day = today()
        with self._lock:
            used, self._used = self._used, set()
            for principal, known in list(self._known.items()):
                if known.key and known.key.id in used:
                    key = replace(known.key, used_on=day)
                    self._known[principal] = replace(known, key=key)
        # So that the next look begins in time.
        with (
            contextlib.suppress(database.SQLAlchemyError),
            waiting(LOOK_EVERY_SECONDS - LOOK_SECONDS),
        ):
            uses.write(used, day)

    def _report(self, why: str) -> None:
        """Write a line when callers begin to cost a query each, and when they end to."""
        if why != self._why_not:
            self._why_not = why
            if why:
                log.warning("callers.unwatched", why=why)
            else:
                log.info("callers.watched")


callers = part(Callers)


def query_of(principal: Principal) -> Select[Any]:
    """The query of a principal: its account, and the server; for a key also that.

    An account counts as active in its open sessions alone.
    """
    is_active: ColumnElement[bool] = User.is_active  # type: ignore[assignment]
    if principal.session:
        own = (Session.id == uuid.UUID(principal.session), Session.user_id == User.id)
        is_active = and_(User.is_active, exists().where(*own, Session.ended_at.is_(None)))
    columns = User.id, User.correo, is_active, func.pg_postmaster_start_time()
    if principal.key:
        of_key = ServiceKey.user_id == User.id, ServiceKey.id == principal.key
        return select(*columns, ServiceKey).where(*of_key)
    return select(*columns).where(User.id == uuid.UUID(principal.account))


def init_app(app: Flask) -> None:
    add(app, Callers())
