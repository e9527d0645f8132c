"""The term, from an INFO that does not say enough of it."""

from __future__ import annotations

import pytest
import redis

import dev
from tokenservice.onetime.scripts import SCRIPTS

SERVER, REPLICATION = "redis.call('INFO', 'server')", "redis.call('INFO', 'replication')"
RUN, MASTERSHIP = "1f" * 20, "2e" * 20


def term(server: dev.Redis, run: str, mastership: str) -> bytes:
    """The term of the script that looks at nothing else, where INFO says this."""
    said = {
        SERVER: f"# Server\\r\\nredis_mode:standalone\\r\\n{run}tcp_port:6379\\r\\n",
        REPLICATION: f"# Replication\\r\\nrole:master\\r\\n{mastership}offset:1234567890\\r\\n",
    }
    source = SCRIPTS["probe"]
    for call, text in said.items():
        assert source.count(call) == 1
        source = source.replace(call, f"'{text}'")
    names = ("history", "cut", "hash", "set", "text")
    with redis.Redis.from_url(server.url) as client:
        reply = client.eval(source, len(names), *(f"ott:{{00}}:probe:{name}" for name in names), "")
    return bytes(reply[1])


def test_the_term_is_a_part_of_both_ids(redis_server: dev.Redis) -> None:
    found = term(redis_server, f"run_id:{RUN}\\r\\n", f"master_replid:{MASTERSHIP}\\r\\n")
    assert found == f"{RUN[:24]}{MASTERSHIP[:24]}".encode()


@pytest.mark.parametrize(
    ("run", "mastership"),
    [
        ("", f"master_replid:{MASTERSHIP}\\r\\n"),
        (f"run_id:{RUN}\\r\\n", ""),
        ("run_id:\\r\\n", f"master_replid:{MASTERSHIP}\\r\\n"),
        (f"run_id:{RUN}\\r\\n", "master_replid:\\r\\n"),
        ("run_id:1\\r\\n", f"master_replid:{MASTERSHIP}\\r\\n"),
        ("run_id:unknown-but-longer-than-a-term\\r\\n", f"master_replid:{MASTERSHIP}\\r\\n"),
    ],
)
def test_a_term_that_is_not_whole_ends_the_script(
    run: str, mastership: str, redis_server: dev.Redis
) -> None:
    """Without it the same term would return after a restart. Guard: ``hex`` in prelude.lua."""
    with pytest.raises(redis.ResponseError):
        term(redis_server, run, mastership)
