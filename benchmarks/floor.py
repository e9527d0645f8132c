"""The floor: the cost of a token call with nothing but the engine.

A bare WSGI function with one script call a request, under the same gunicorn and on the same Redis
as the service. No callers, limits, schemas, logs or metrics.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from config import Config
from settings.addresses import redis_servers
from tokenservice.onetime.connection import Connection
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

CALLER = Party("018f0000-0000-7000-8000-000000000000", "bench@example.com")

config = Config.from_env()
redis = Connection(
    **redis_servers(config.redis_address),
    connect_ms=config.redis_connect_timeout_ms,
    read_ms=config.redis_timeout_ms,
    connections=config.web_threads + 1,
)
store = TokenStore(redis, secret=config.secret_key.encode(), max_active=1_000_000)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    # Any other path makes no call to Redis, to check the load generator.
    status, body = "200 OK", {"status": "alive"}
    if path == "/token/create":
        life = json.loads(environ["wsgi.input"].read())["expires_in"]
        status, body = "201 Created", {"token": store.create(CALLER.id, life_seconds=life).text}
    elif path == "/token/validate":
        token = json.loads(environ["wsgi.input"].read())["token"]
        body = {"id": store.validate(Presented(token), CALLER).id}
    payload = json.dumps(body).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(payload)))]
    start_response(status, headers)
    return [payload]
