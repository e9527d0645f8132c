"""The memory that one account can take in the shipped Redis."""

from __future__ import annotations

import json
import re
from pathlib import Path

import limits
import redis
from flask import Flask

import dev
from config import Config
from tests.stage.connections import connect
from tests.stage.paths import ROOT
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Terms
from tokenservice.token.schemas import CreateTokenRequest

MOST_OF_A_BATCH = 100
MEASURED = 1000


def largest(app: Flask) -> Terms:
    """The largest terms that the API accepts."""
    domain = ".".join(["b" * 63, "c" * 63, "d" * 57, "com"])
    with app.app_context():
        given = CreateTokenRequest(exclude=["expires_in", "allow_unregistered"]).load(
            {
                "purpose": "p" * 64,
                "audience": [f"{number:064}@{domain}" for number in range(16)],
                "subject": "🐘" * 255,
                "require_subject": True,
                "data": {"": "x" * (4096 - len('{"":""}'))},
                "bind": "0f" * 32,
            }
        )
    assert {len(member) for member in given["audience"]} == {254}
    assert len(json.dumps(json.loads(given["data"]), separators=(",", ":"))) == 4096
    return Terms(**{**given, "audience": tuple(given["audience"])})


def test_the_largest_tokens_of_one_account_fit_at_the_default_life(
    tmp_path: Path, config: Config, app: Flask
) -> None:
    """S37. As many as the create limit allows until the first record is gone."""
    [a_minute] = limits.parse_many(Config.rate_limit_create)
    seconds = Config.onetime_token_expire_seconds + Config.receipt_seconds
    records = a_minute.amount * MOST_OF_A_BATCH * seconds // a_minute.get_expiry()
    assert records == 31_000

    with dev.Redis(tmp_path) as server, redis.Redis.from_url(server.url) as admin:
        connection = connect(server.url, connect_ms=2000, read_ms=5000, connections=1)
        store = TokenStore(connection, secret=config.secret_key.encode(), max_active=MEASURED)
        store.create("another", life_seconds=60)  # loads the script
        before = admin.info("memory")["used_memory"]
        for number in range(MEASURED // MOST_OF_A_BATCH):
            store.create_many(
                "owner", MOST_OF_A_BATCH, life_seconds=60, terms=largest(app), key=str(number)
            )
        each = (admin.info("memory")["used_memory"] - before) / MEASURED

    settings = (ROOT / "deploy/redis/redis.conf").read_text()
    [shipped] = re.findall(r"^maxmemory (\d+)mb$", settings, re.MULTILINE)
    assert 9_300 < each < 13_000  # More with jemalloc than with the malloc of the wheel.
    assert records * each < int(shipped) * 2**20
