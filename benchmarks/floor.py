"""The floor: the cost of a token call with nothing but the engine.

A bare function with one script call a request, in the same worker and on the same Redis as the
service. No callers, limits, schemas, logs or metrics.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from config import Config
from settings.addresses import redis_servers
from tokenservice.onetime.connection import Connection
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented
from tokenservice.server.request import Request
from tokenservice.server.wsgi import Headers

CALLER = Party("018f0000-0000-7000-8000-000000000000", "bench@example.com")

config = Config.from_env()
redis = Connection(
    **redis_servers(config.redis_address),
    connect_ms=config.redis_connect_timeout_ms,
    read_ms=config.redis_timeout_ms,
    connections=config.web_threads + 1,
)
store = TokenStore(redis, secret=config.secret_key.encode(), max_active=1_000_000)


def respond(path: str, body: bytes) -> tuple[int, bytes]:
    # Any other path makes no call to Redis, to check the load generator.
    status, said = HTTPStatus.OK, {"status": "alive"}
    if path == "/token/create":
        life = json.loads(body)["expires_in"]
        status, said = (
            HTTPStatus.CREATED,
            {"token": store.create(CALLER.id, life_seconds=life).text},
        )
    elif path == "/token/validate":
        said = {"id": store.validate(Presented(json.loads(body)["token"]), CALLER).id}
    return status, json.dumps(said).encode()


class Floor:
    """The function, as the worker asks for it: by WSGI, or at once as a quick call."""

    def __init__(self) -> None:
        self.extensions = {"Door": self}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        status, payload = respond(environ["PATH_INFO"], environ["wsgi.input"].read())
        start_response(f"{status} {HTTPStatus(status).phrase}", headers_of(payload))
        return [payload]

    def enter(self, request: Request) -> Request:
        return request

    def is_quick(self, _: Request) -> bool:
        return True

    def answer(self, request: Request, *, waits: bool) -> tuple[int, Headers, bytes]:
        status, payload = respond(request.path.decode("latin-1"), request.body)
        return status, headers_of(payload), payload

    def is_hashing(self, _: Request) -> bool:
        return False


def headers_of(payload: bytes) -> Headers:
    return [("Content-Type", "application/json"), ("Content-Length", str(len(payload)))]


app = Floor()
