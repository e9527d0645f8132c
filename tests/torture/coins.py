"""Coins: tokens presented on every side at once, and the outcomes of each.

A coin with the outcome "first success" more than once, on all sides together, was consumed twice.
Beside the coins of the real engine there are coins of twins with a broken fence: the same trial
must show those consumed twice, or it proves nothing about the engine.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum

from tests.stage.connections import connect
from tests.stage.topologies import HERE, Host
from tests.torture.ledger import record
from tokenservice.onetime import errors
from tokenservice.onetime.format import shard_tag
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

HONOURED, REPLAYED = "first success", "repeated"
USED, LOST = errors.TokenAlreadyUsed.__name__, errors.TokenLost.__name__
UNKNOWN = errors.StoreUnavailable.__name__
#: After these a coin may still be honoured.
UNDECIDED = UNKNOWN, errors.TokenReserved.__name__
CALLERS = Party("luis"), Party("eva")
SECRET = secrets.token_bytes(32)

counting = threading.Lock()


class Fence(StrEnum):
    """The check by which a script decides that it may honour a token."""

    BUILT = "as built"
    NONE = "without the fence"
    PROCESS = "with run_id alone"
    SERVER = "without the epoch"


#: The guards: the line of prelude.lua that each twin lacks.
TAKEN_OUT = {
    Fence.NONE: "if record.term ~= term_now then return 'lost' end",
    Fence.PROCESS: " .. begin(replication, '\\nmaster_replid:')",
    Fence.SERVER: "  term_now = term_now .. ':' .. epoch .. ':'\n",
}


class Stores:
    """The engine and its twins at one address, with the service's own time limits by default.

    :param lease_seconds: of a reservation, which is committed at once
    """

    def __init__(
        self,
        url: str,
        shards: int,
        connect_ms: int = 50,
        read_ms: int = 100,
        lease_seconds: int = 1,
    ) -> None:
        connection = connect(url, connect_ms=connect_ms, read_ms=read_ms, connections=64)
        self._shards, self._lease_seconds = shards, lease_seconds
        self._by_fence: dict[Fence, TokenStore] = {}
        for fence in Fence:
            store = TokenStore(connection, secret=SECRET, shards=shards, max_active=100_000)
            if taken_out := TAKEN_OUT.get(fence):
                for verb, script in store._shards._scripts.items():
                    assert taken_out in script.source
                    source = script.source.replace(taken_out, "")
                    store._shards._scripts[verb] = connection.script(source)
            self._by_fence[fence] = store
        self.engine = self._by_fence[Fence.BUILT]

    def issue(self, owner: str, count: int, life_seconds: int = 60) -> list[Coin]:
        """Create ``count`` coins of each kind, each for an owner of its own on the same shard.

        The live tokens of an owner are of one term, and a twin names the term differently.
        """
        tag = shard_tag(owner, self._shards)
        names = (f"{owner}.{n}" for n in itertools.count())
        alike = (name for name in names if shard_tag(name, self._shards) == tag)
        return [
            Coin(created.text, fence)
            for fence, store in self._by_fence.items()
            for created in store.create_many(next(alike), count, life_seconds=life_seconds)
        ]

    def present(self, coin: Coin) -> str:
        """Try to consume a coin; count and return the outcome."""
        store, caller = self._by_fence[coin.fence], secrets.choice(CALLERS)
        try:
            if coin.is_held:
                seconds = self._lease_seconds
                held = store.reserve(
                    Presented(coin.text), caller, lease_seconds=seconds, key=coin.key
                )
                consumed = store.commit(held.text, caller, key=coin.key)
            else:
                consumed = store.validate(Presented(coin.text), caller, key=coin.key)
            outcome = REPLAYED if consumed.replayed else HONOURED
        except errors.OneTimeError as error:
            outcome = type(error).__name__
        with counting:
            coin.outcomes[outcome] += 1
        return outcome

    def serves(self, owner: str) -> bool:
        """Whether a token can be created and then validated."""
        try:
            text = self.engine.create(owner, life_seconds=10).text
            return self.engine.validate(Presented(text), CALLERS[0]).owner == owner
        except errors.StoreUnavailable:
            return False


@dataclass
class Coin:
    """A token, and the outcomes of all its presentations.

    Half of the coins are presented under an idempotency key, so that the same caller may get a
    replay; a third are reserved and then committed, the others validated.
    """

    text: str
    fence: Fence
    key: str = field(default_factory=lambda: secrets.choice(("", secrets.token_urlsafe(8))))
    is_held: bool = field(default_factory=lambda: secrets.randbelow(3) == 0)
    outcomes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Side:
    """A client that presents coins: its host, and the address it connects to."""

    url: str
    host: Host = HERE
    read_ms: int = 100


@contextlib.contextmanager
def presenting(sides: Sequence[Side], coins: Sequence[Coin], shards: int = 1) -> Iterator[None]:
    """Present random ``coins``, a list that may grow, on all sides during the ``with``."""
    over = threading.Event()

    def present(side: Side) -> None:
        with side.host:
            stores = Stores(side.url, shards, read_ms=side.read_ms)
            while not over.wait(0.01):
                stores.present(secrets.choice(coins))

    with ThreadPoolExecutor(len(sides)) as pool:
        presented = [pool.submit(present, side) for side in sides]
        try:
            yield
        finally:
            over.set()
        for ended in presented:
            ended.result()


def verdict(what: str, n: int, coins: Sequence[Coin], twin: Fence | None = Fence.NONE) -> None:
    """Record and assert the outcomes of the coins of ``n`` trials.

    :param twin: the broken fence that must have let some be consumed twice
    """
    built = [coin.outcomes for coin in coins if coin.fence is Fence.BUILT]
    unused = [outcomes for outcomes in built if not outcomes[HONOURED]]
    lost = sum(bool(outcomes[LOST]) for outcomes in unused)
    # A presentation without a reply may have consumed the coin.
    called_used = sum(bool(outcomes[USED] and not outcomes[UNKNOWN]) for outcomes in unused)
    doubled = {
        fence: sum(max(0, coin.outcomes[HONOURED] - 1) for coin in coins if coin.fence is fence)
        for fence in Fence
    }
    figures = f"{len(built):,} tokens: {len(built) - len(unused):,} honoured, {lost:,} lost unused"
    once = f"{what}: no token is honoured twice"
    record(once, n=n, failures=doubled[Fence.BUILT], figures=figures)
    record(f"{what}: no unused token is called used", n=len(built), failures=called_used)
    assert doubled[Fence.BUILT] == called_used == 0
    if twin:
        figures = f"of {len(built):,} tokens; {Fence.PROCESS} {doubled[Fence.PROCESS]:,}"
        record(f"{once} {twin} (must fail)", n=n, failures=doubled[twin], figures=figures)
        assert doubled[twin] > 0
