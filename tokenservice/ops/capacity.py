"""The machine that a load needs: workers, threads, memory, connections, and the Redis.

The constants are measurements; docs/operations/capacity.md says of which machine, and how they are
repeated. ``tests/ops/test_capacity.py`` compares them with real servers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tokenservice.postgres.breaker import Breaker

#: Tokens a second, each created and consumed, that keep a worker half as busy as it can be.
TOKENS_OF_A_WORKER = 620
#: Seconds of the Redis process for a token, with its two calls.
REDIS_SECONDS = 0.00016
#: Seconds of a core for a login, whose hash takes ``argon2_memory_kib`` of ``HASH_KIB``.
LOGIN_SECONDS, HASH_KIB = 0.026, 19_456
#: The part of a core that is planned for: the rest is for bursts, and for the loss of a machine.
BUSY = 0.5

#: MB that all processes of an instance share, and MB of each.
SHARED_MB, PROCESS_MB = 55, 30
#: Connections for `flask` commands, beside those of the workers.
COMMANDS = 3
#: Fewer threads save nothing.
LEAST_THREADS = 8

#: Bytes of a record with a purpose, a subject, a bind, one id in its audience, and the hashes of
#: its idempotency keys.
RECORD = 930
#: Bytes of each further id of the audience.
MEMBER = 37
#: Bytes more where one field of a record is longer than ``LONG``: Redis makes it a hash table.
TABLE, LONG = 800, 64
#: Bytes of an idempotency key, of which a token has two: of its create and of its consume.
KEY = 270
#: A record of a longer life is shortened when the token is consumed.
SHORT_SECONDS = 10
#: MB of an empty Redis with the connections of the workers.
EMPTY_MB = 10
#: The part of ``maxmemory`` that is planned for, and the step in which it is given.
FULL, STEP_MB = 0.6, 64


@dataclass(frozen=True)
class Load:
    """A load. Times are seconds.

    :param rate: tokens a second, each created and consumed
    :param life: the life of a token
    :param used_after: the time from its creation to its use
    :param receipt: the time that its record is kept afterwards
    :param window: the life of an idempotency key
    :param data: bytes of the data of a token
    :param audience: ids in its audience
    :param logins: logins and registrations a second
    :param hash_kib: the memory of a password hash
    :param threads: the threads of a worker for what is slow, at least
    :param redis_ms: the time of a call to Redis, in milliseconds
    """

    rate: float
    life: float
    used_after: float
    receipt: float
    window: float
    data: int
    audience: int
    logins: float
    hash_kib: int
    threads: int
    redis_ms: float


@dataclass(frozen=True)
class Need:
    """What a load needs. ``memory_mb`` and ``postgres_connections`` are for all workers, and last
    for a reload, in which old and new workers run side by side; ``redis_mb`` is in use."""

    workers: int
    threads: int
    memory_mb: int
    postgres_connections: int
    redis_masters: int
    redis_records: int
    redis_mb: int
    redis_maxmemory_mb: int


def token_bytes(load: Load) -> int:
    """The bytes of a record in Redis, whatever the state of its token."""
    audience = MEMBER * (max(1, load.audience) - 1)
    is_long = load.data > LONG or audience + MEMBER > LONG
    return RECORD + audience + load.data + TABLE * is_long


def records(load: Load) -> int:
    """The records that Redis holds at once."""
    kept = min(load.life, load.used_after + SHORT_SECONDS) + load.receipt
    return math.ceil(load.rate * kept)


def redis_bytes(load: Load) -> float:
    """The bytes of all records and idempotency keys that Redis holds at once."""
    return records(load) * token_bytes(load) + load.rate * load.window * 2 * KEY


def need_of(load: Load) -> Need:
    hashing = load.logins * LOGIN_SECONDS * load.hash_kib / HASH_KIB
    workers = max(2, math.ceil(load.rate / TOKENS_OF_A_WORKER + hashing / BUSY))
    # Calls to a Redis that is not near wait on threads.
    waiting = 2 * load.rate / workers * load.redis_ms / 1000 / BUSY
    threads = max(LEAST_THREADS, load.threads, 4 * math.ceil(waiting / 4))
    processes = 1 + 2 * workers
    hashes = workers * load.hash_kib / 1000 if load.logins else 0
    masters = max(1, math.ceil(load.rate * REDIS_SECONDS / BUSY))
    in_use = redis_bytes(load) / 1e6 / masters + EMPTY_MB
    return Need(
        workers=workers,
        threads=threads,
        memory_mb=math.ceil(SHARED_MB + PROCESS_MB * processes + hashes),
        postgres_connections=2 * workers * (Breaker(threads).places + 2) + COMMANDS,
        redis_masters=masters,
        redis_records=math.ceil(records(load) / masters),
        redis_mb=math.ceil(in_use),
        redis_maxmemory_mb=STEP_MB * math.ceil(in_use / FULL / STEP_MB),
    )
