"""Permits of fixed windows, taken from Redis by the handful while a limit is far from its quota."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

#: The part of a quota that a process takes at once, and the most.
PART, MOST = 50, 100
#: The keys whose unused permits are kept. Those of others stay counted: too strict, not too loose.
REMEMBERED = 10_000

#: Below half of its quota a limit gives a handful; above, where each call matters, one by one.
COUNT = """
local count, taken = redis.call('INCRBY', KEYS[1], 1), 1
local handful, quota = tonumber(ARGV[2]), tonumber(ARGV[3])
if handful > 1 and count <= quota / 2 then
  count, taken = redis.call('INCRBY', KEYS[1], handful - 1), handful
end
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  left = tonumber(ARGV[1])
  redis.call('PEXPIRE', KEYS[1], left)
end
return { count, left, taken }
"""


def handful(quota: int) -> int:
    return max(1, min(quota // PART, MOST))


class Permits:
    """The counts that this process has taken for its next calls, by key."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, list[tuple[int, int, float]]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str) -> tuple[int, float] | None:
        """A count and the seconds left of its window; None where none is kept."""
        with self._lock:
            handfuls = self._kept.get(key, [])
            while handfuls:
                count, last, until = handfuls.pop()
                if (left := until - time.monotonic()) > 0:
                    if count < last:
                        handfuls.append((count + 1, last, until))
                    return count, left
        return None

    def keep(self, key: str, first: int, last: int, until: float) -> None:
        """Keep the counts from ``first`` to ``last`` for the window that ends at ``until``."""
        with self._lock:
            # Several threads may find none, and take a handful each.
            self._kept.setdefault(key, []).append((first, last, until))
            self._kept.move_to_end(key)
            if len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
