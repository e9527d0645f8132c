"""Scripts on the keys of a shard, and the history that each reply reports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from tokenservice.onetime.connection import Connection
from tokenservice.onetime.format import TAG, base62
from tokenservice.onetime.keys import Keys
from tokenservice.onetime.scripts import SCRIPTS

#: The terms of a shard whose counts are remembered: its slot may return to a server.
TERMS = 8


class Shards:
    """The keys of all owners: ``count`` tags, each in one slot of a cluster.

    Each script replies with its server's term and the change count of the shard. The highest count
    of each term goes along with the next call: a lower count in the same term proves that the
    server lost data.

    :param timed: a context manager around each call, made from the verb's name
    """

    def __init__(
        self,
        connection: Connection,
        count: int,
        timed: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self.count = count
        self._connection = connection
        self._timed = timed
        self._scripts = {verb: connection.script(source) for verb, source in SCRIPTS.items()}
        self._seen: dict[str, dict[bytes, int]] = {}
        self._lock = threading.Lock()

    def run(self, verb: str, keys: Keys, named: Sequence[str], *args: Any) -> list[Any]:
        """Run a script on the keys ``named``; return its reply.

        :raises StoreUnavailable: refused, timed out, or unable to write; the outcome is unknown
        """
        return self.run_in_term(verb, keys, named, *args)[1]

    def run_in_term(
        self, verb: str, keys: Keys, named: Sequence[str], *args: Any
    ) -> tuple[bytes, list[Any]]:
        """Run a script on the keys ``named``; return the term of its server, and its reply."""
        with self._timed(verb):
            seen = self._seen.get(keys.tag, {})
            known = b"".join([b"%b %d " % item for item in seen.items()])
            *reply, term, count = self._scripts[verb](
                [keys.history, keys.cut, *named], known, *args
            )
        if int(count) != seen.get(term):
            self._learn(keys.tag, term, int(count))
        return term, reply

    def probe(self) -> None:
        """Run every command of the scripts on each master, and write as a create would.

        :raises StoreUnavailable: a master would refuse one of them
        """
        shards = [Keys(base62(number, TAG), "") for number in range(self.count)]
        of_key = {keys.history: keys for keys in shards}
        for key in self._connection.one_of_each_master([*of_key]):
            keys = of_key[key]
            self.run("probe", keys, [keys.probe(kind) for kind in ("hash", "set", "text")])

    def masters(self) -> list[dict[str, Any]]:
        """INFO of each master.

        :raises StoreUnavailable: one of them does not respond
        """
        return self._connection.info()

    def _learn(self, tag: str, term: bytes, count: int) -> None:
        with self._lock:
            # Replaced, never changed: another thread may be reading it.
            seen = dict(self._seen.get(tag, {}))
            # Threads finish out of order: the highest count stays. The term moves to the end.
            seen[term] = max(count, seen.pop(term, 0))
            self._seen[tag] = dict([*seen.items()][-TERMS:])
