"""Counters of calls and attempts: in Redis, and in process memory while Redis is away.

Failure policy: while Redis cannot count, each process counts for itself, with its share of the
limit, so that a whole host allows no more than the limit (or one call per process, where there are
more processes than the limit has calls). Never unlimited; but a window in which Redis goes away has
two counts, and allows up to twice the limit.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from tokenservice.onetime.connection import Connection, Script
from tokenservice.onetime.errors import StoreUnavailable
from tokenservice.onetime.format import derived_key
from tokenservice.web.attempts import ATTEMPT, FAIL, GIVE_BACK, SECOND, UNSETTLED_SECONDS
from tokenservice.web.permits import COUNT, Permits, handful

KEY_PREFIX = "rate:"
ASK_AGAIN_SECONDS = 0.5
SLOTS = 2**16
KNOWN_NETWORKS = 10
KNOWN_SECONDS = 30 * 86_400

SCRIPTS = (COUNT, ATTEMPT, FAIL, GIVE_BACK)


class Log(NamedTuple):
    """The attempts of one limit: at most ``quota`` in any ``seconds``.

    :param known_quota: the quota for a known network of the account; 0 where its attempts do not
        count here
    """

    name: str
    key: str
    quota: int
    known_quota: int
    seconds: int


class Verdict(NamedTuple):
    """The decision of a limit on a call.

    :param remaining: the calls that it would still admit now
    :param room_at: the time at which it admits one more than now, in seconds of the monotonic clock
    """

    name: str
    quota: int
    seconds: int
    remaining: int
    room_at: float
    refused: bool = False


class Attempt(NamedTuple):
    """An attempt: counted in each of ``logs``, or refused by the first and counted in none.

    It counts as a failure until it is given back, and is in flight until it is settled, by
    ``Counters.fail`` or ``give_back``.

    :param id: its name in a log of Redis; in memory it is the time, ``at``
    :param network: its network, and ``networks`` the key of its account's known networks; empty
        where there is no account
    :param may_pass: whether it is refused for attempts in flight alone: if these succeed, the next
        look admits it
    """

    id: str
    at: float
    logs: list[Log]
    verdicts: list[Verdict]
    network: str
    networks: str
    in_memory: bool
    may_pass: bool

    @property
    def refused(self) -> bool:
        return self.verdicts[0].refused


class Counters:
    """Fixed windows, and logs of attempts, in Redis; and in memory while Redis is away.

    :param workers: the processes of this host, which share the limits while Redis is away
    :param secret: hides addresses in the names of keys
    :param timed: a context manager around each call to Redis
    """

    def __init__(
        self,
        connection: Connection,
        *,
        workers: int,
        secret: bytes,
        timed: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._count, self._attempt, self._fail, self._give_back = map(connection.script, SCRIPTS)
        self._memory = Memory(workers)
        self._permits = Permits()
        self._secret = derived_key(b"limits", secret)
        self._timed = timed
        self._away_until = 0.0

    def pseudonym(self, text: str) -> str:
        """The name of an address in Redis: a keyed hash."""
        return hashlib.blake2b(text.encode(), key=self._secret, digest_size=8).hexdigest()

    def add(self, key: str, seconds: int, quota: int) -> tuple[int, float]:
        """Count a call under ``key``; return the count and the seconds left of its window."""
        if kept := self._permits.take(key):
            return kept
        # From before the call, so that no permit outlives its window.
        now = time.monotonic()
        told = self._ask(self._count, [key], seconds * 1000, handful(quota), quota)
        if told is None:
            return self._memory.add(key, seconds)
        last, left, taken = told[0], told[1] / 1000, told[2]
        if taken > 1:
            self._permits.keep(key, last - taken + 2, last, now + left)
        return last - taken + 1, left

    def give_back_call(self, key: str, count: int, left: float) -> None:
        """Let the next call under ``key`` have this count, within its window."""
        self._permits.keep(key, count, count, time.monotonic() + left)

    def attempt(self, logs: Sequence[Log], network: str = "", networks: str = "") -> Attempt:
        """Count an attempt in each of ``logs``, or in none where one is full.

        Of several full logs, the one that stays full for longest refuses. All keys share a slot.
        """
        attempt, at = secrets.token_hex(6), time.monotonic()
        quotas = (n for log in logs for n in (log.quota, log.known_quota, log.seconds * SECOND))
        keys = [log.key for log in logs] + [networks] * bool(networks)
        told = self._ask(self._attempt, keys, attempt, network, KNOWN_SECONDS * SECOND, *quotas)
        passed, may_pass, *states = told or self._memory.attempt(at, logs)
        judged = [logs[place - 1]._replace(quota=quota) for place, quota, *_ in states]
        verdicts = [verdict(*pair, not passed) for pair in zip(judged, states, strict=True)]
        away = told is None
        return Attempt(attempt, at, judged, verdicts, network, networks, away, bool(may_pass))

    def fail(self, attempt: Attempt) -> None:
        """Settle an attempt that failed. One that never is counts as failed as well."""
        if attempt.in_memory:
            self._memory.fail(attempt.at)
        else:
            self._ask(self._fail, [log.key for log in attempt.logs], attempt.id)

    def give_back(self, attempt: Attempt, *, remember: bool) -> list[Verdict]:
        """Take back an attempt that did not fail; return the verdicts after it.

        :param remember: whether its network becomes a known one of its account
        """
        logs = attempt.logs
        states: Any
        if attempt.in_memory:
            states = self._memory.give_back(attempt.at, logs)
        else:
            keys = [log.key for log in logs] + [attempt.networks] * remember
            quotas = (n for log in logs for n in (log.quota, log.seconds * SECOND))
            bounds = KNOWN_SECONDS * SECOND, KNOWN_NETWORKS
            states = self._ask(self._give_back, keys, attempt.id, attempt.network, *bounds, *quotas)
        if states is None:
            return attempt.verdicts
        return [verdict(*pair) for pair in zip(logs, states, strict=True)]

    def _ask(self, script: Script, keys: Sequence[str], *args: Any) -> Any:
        """Run a script; None while Redis is away."""
        if time.monotonic() < self._away_until:
            return None
        try:
            with self._timed("limit"):
                return script([KEY_PREFIX + key for key in keys], *args)
        except StoreUnavailable:
            # A Redis that hangs would otherwise cost its timeout on every call.
            self._away_until = time.monotonic() + ASK_AGAIN_SECONDS
            return None


def verdict(log: Log, state: Sequence[int], refused: bool = False) -> Verdict:
    _, quota, count, left = state
    room_at = time.monotonic() + left / SECOND
    remaining = 0 if refused else max(0, quota - count)
    return Verdict(log.name, quota, log.seconds, remaining, room_at, refused)


class Memory:
    """Counters in the memory of one of ``workers`` processes, with the replies of the scripts.

    It knows no networks. Each length of window has ``SLOTS`` slots, 40 MB when all are full,
    whatever strangers send. Two keys in one slot are counted as one: too strictly, never too
    loosely.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._windows: dict[tuple[int, int], tuple[int, float]] = {}
        self._logs: dict[tuple[int, int], array[float]] = {}
        self._in_flight: set[float] = set()
        self._lock = threading.Lock()

    def add(self, key: str, seconds: int) -> tuple[int, float]:
        now = time.monotonic()
        with self._lock:
            count, ends = self._windows.get(slot(key, seconds), (0, 0.0))
            if ends <= now:
                count, ends = 0, now + seconds
            self._windows[slot(key, seconds)] = count + 1, ends
        return self._weight(count + 1), ends - now

    def attempt(self, at: float, logs: Sequence[Log]) -> list[Any]:
        with self._lock:
            held = [self._held(log) for log in logs]
            full = [
                (self._state(place, log), self._settled(entries))
                for place, (log, entries) in enumerate(zip(logs, held, strict=True), 1)
                if self._weight(len(entries) + 1) > log.quota
            ]
            if full:
                may_pass = all(self._weight(count + 1) <= state[1] for state, count in full)
                longest = max((state for state, _ in full), key=lambda state: state[3])
                return [0, may_pass, longest]
            for entries in held:
                entries.append(at)
            self._in_flight.add(at)
            return [1, False, *(self._state(place, log) for place, log in enumerate(logs, 1))]

    def fail(self, at: float) -> None:
        with self._lock:
            self._in_flight.discard(at)

    def give_back(self, at: float, logs: Sequence[Log]) -> list[Any]:
        with self._lock:
            self._in_flight.discard(at)
            for log in logs:
                held = self._held(log)
                if at in held:
                    held.remove(at)
            return [self._state(place, log) for place, log in enumerate(logs, 1)]

    def _weight(self, count: int) -> int:
        return count if count <= 1 else count * self._workers

    def _held(self, log: Log) -> array[float]:
        """The times of a log's entries within its window."""
        held = self._logs.setdefault(slot(log.key, log.seconds), array("d"))
        since = time.monotonic() - log.seconds
        while held and held[0] <= since:
            del held[0]
        return held

    def _settled(self, entries: array[float]) -> int:
        since = time.monotonic() - UNSETTLED_SECONDS
        return sum(at not in self._in_flight or at <= since for at in entries)

    def _state(self, place: int, log: Log) -> list[int]:
        now, held = time.monotonic(), self._held(log)
        left = (held[0] if held else now) + log.seconds - now
        return [place, log.quota, self._weight(len(held)), round(left * SECOND)]


def slot(key: str, seconds: int) -> tuple[int, int]:
    # Python's hash has a secret of the process, so that collisions cannot be planned.
    return seconds, hash(key) % SLOTS
