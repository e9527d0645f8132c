"""``flask capacity``: the machine that a load needs."""

from __future__ import annotations

import dataclasses

import click
from flask.cli import with_appcontext

from tokenservice.extensions import config
from tokenservice.ops.capacity import Load, need_of
from tokenservice.ops.terminal import Command, show_line

SECONDS = click.FloatRange(0)
LINES = {
    "workers": "web_concurrency, on as many cores",
    "threads": "web_threads",
    "memory_mb": "MB of memory of all processes, during a reload",
    "postgres_connections": "connections to Postgres, during a reload",
    "redis_masters": "masters of Redis",
    "redis_records": "records in each of them",
    "redis_mb": "MB in use in each of them",
    "redis_maxmemory_mb": "MB of maxmemory for each of them",
}


@click.command("capacity", cls=Command)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    required=True,
    help="Tokens a second, each created and consumed.",
)
@click.option("--life", type=SECONDS, help="Life of a token in seconds.")
@click.option("--used-after", type=SECONDS, help="Seconds from its creation to its use.")
@click.option("--receipt", type=SECONDS, help="Seconds that its record is kept afterwards.")
@click.option("--data", type=click.IntRange(0, 4096), default=0, help="Bytes of its data.")
@click.option("--audience", type=click.IntRange(0, 16), default=1, help="Ids in its audience.")
@click.option("--logins", type=SECONDS, default=0, help="Logins and registrations a second.")
@click.option("--redis-ms", type=SECONDS, default=1, help="Milliseconds of a call to Redis.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@with_appcontext
def capacity(
    rate: float,
    life: float | None,
    used_after: float | None,
    receipt: float | None,
    data: int,
    audience: int,
    logins: float,
    redis_ms: float,
    as_json: bool,
) -> None:
    """Print what a load needs. What is not given is as the settings have it."""
    life = config.onetime_token_expire_seconds if life is None else life
    need = need_of(
        Load(
            rate=rate,
            life=life,
            used_after=life if used_after is None else used_after,
            receipt=config.receipt_seconds if receipt is None else receipt,
            window=config.idempotency_window_seconds,
            data=data,
            audience=audience,
            logins=logins,
            hash_kib=config.argon2_memory_kib,
            threads=config.web_threads,
            redis_ms=redis_ms,
        )
    )
    figures = dataclasses.asdict(need)
    if as_json:
        show_line(figures)
        return
    for name, text in LINES.items():
        click.echo(f"{figures[name]:>9,}  {text}")
