"""How many tokens are outstanding and reserved, without a look at any of them."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from tokenservice.onetime.format import TAG, base62
from tokenservice.onetime.keys import Keys
from tokenservice.onetime.shards import Shards

#: The most shards that are counted, two round trips each.
MOST_SHARDS = 128
#: The most owners of a shard whose tokens are counted. Of more, as many are drawn by lot.
MOST_OWNERS = 200


class Count(NamedTuple):
    """The tokens of one shard.

    :param mastership: a number that is another one in each term of the shard
    :param outstanding: those that count under ``max_active``; an estimate from ``MOST_OWNERS``
        where more owners have some
    :param reserved: those of them that are held
    """

    shard: int
    mastership: int
    outstanding: int
    reserved: int


def census(shards: Shards) -> list[Count]:
    """Count the tokens of each shard; of none where there are more than ``MOST_SHARDS``.

    :raises StoreUnavailable: Redis gave no trustworthy reply
    """
    return [count_of(shards, n) for n in range(shards.count if shards.count <= MOST_SHARDS else 0)]


def count_of(shards: Shards, shard: int) -> Count:
    keys = Keys(base62(shard, TAG), "")
    named = [keys.owners, keys.held]
    term, (_, owners, drawn, reserved) = shards.run_in_term("census", keys, named, MOST_OWNERS)
    outstanding = 0
    if drawn:
        handles = [handle.decode() for handle in drawn]
        live = [Keys(keys.tag, handle).live for handle in handles]
        _, found = shards.run("outstanding", keys, [keys.owners, *live], *handles)
        outstanding = round(found * owners / len(handles))
    mastership = int.from_bytes(hashlib.sha256(term).digest()[:6])
    return Count(shard, mastership, outstanding, reserved)
