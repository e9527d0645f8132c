"""The two doors of a token call: the same response, line of the log and metrics from each."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client import REGISTRY
from werkzeug.test import TestResponse

import dev
from tests.stage.callers import Caller
from tests.stage.doors import Doors, always_near, open_door
from tests.stage.people import enrol

# A caller that is no longer fresh goes through Flask.
pytestmark = pytest.mark.usefixtures("always_fresh")

#: What differs between two calls: tokens, ids, times and their length, and the rest of a limit.
CHANGING = re.compile(
    r"ot[tr]_\w{56,70}|\b[0-9A-Za-z]{18}\b|\b[0-9a-f]{32}\b|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)"
    r"|(?<=Content-Length: )\d+|(?<=Retry-After: )\d{3,}|(?<=;r=)\d+;t=\d+"
    r'|(?<="ms": )[\d.]+'
    r'|(?<="expires_in":)[\d.]+|(?<="next_cursor":")\d+'
)
UNKNOWN_ID = "0" * 18
OTHER = "0190a7c0-0000-7000-8000-00000000abcd"
ENGLISH = {"Accept-Language": "en-GB, es;q=0.5"}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Row(NamedTuple):
    """A call, with {token}, {id} and {reservation} in its path or body for those of a new token."""

    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = {}  # noqa: RUF012
    fields: dict[str, Any] = {}  # noqa: RUF012 - of the new token
    times: int = 1


TOKEN = {"token": "{token}"}
HELD = {"reservation": "{reservation}"}
ROWS = {
    "create without a body": Row("POST", "/create"),
    "create": Row("POST", "/create", {"expires_in": 60, "purpose": "pay", "data": {"ñ": 7}}),
    "create, keyed": Row("POST", "/create", {}, {"Idempotency-Key": "{key}"}, times=2),
    "create, another body": Row("POST", "/create", {}, {"Idempotency-Key": "{used}"}),
    "create for longer than allowed": Row("POST", "/create", {"expires_in": 10**6}, ENGLISH),
    "wrong fields": Row("POST", "/create", {"expires_in": 0, "purpose": "A", "x": 1}),
    "an array": Row("POST", "/create", []),
    "null": Row("POST", "/create", "null"),
    "not JSON": Row("POST", "/create", "{"),
    "not JSON, in English": Row("POST", "/validate", "{} {}", ENGLISH),
    "another media type": Row("POST", "/create", "x=1", {"Content-Type": "text/plain"}),
    "no media type": Row("POST", "/create", "{}", {"Content-Type": ""}),
    "a key of other letters": Row("POST", "/create", {}, {"Idempotency-Key": "ñ"}),
    "a key of no letter": Row("POST", "/create", {}, {"Idempotency-Key": ""}),
    "batch": Row("POST", "/batch", {"count": 3}),
    "too many": Row("POST", "/batch", {"count": 101}),
    "consume": Row("POST", "/consume", TOKEN),
    "validate": Row("POST", "/validate", TOKEN),
    "validate, in English": Row("POST", "/validate", TOKEN, ENGLISH),
    "validate, keyed": Row("POST", "/validate", TOKEN, {"Idempotency-Key": "{key}"}, times=2),
    "used": Row("POST", "/validate", TOKEN, times=2),
    "missing": Row("POST", "/validate"),
    "malformed": Row("POST", "/validate", {"token": "x"}),
    "mismatch": Row("POST", "/validate", TOKEN, fields={"purpose": "pay"}),
    "an issuer": Row("POST", "/consume", {**TOKEN, "issued_by": ["{owner}", OTHER]}),
    "another issuer": Row("POST", "/consume", {**TOKEN, "issued_by": [OTHER]}),
    "a subject with an @": Row("POST", "/consume", {**TOKEN, "subject": "a@example.com"}),
    "introspect of another issuer": Row("POST", "/introspect", {**TOKEN, "issued_by": [OTHER]}),
    "of others": Row("POST", "/validate", TOKEN, fields={"audience": [OTHER]}),
    "reserve": Row("POST", "/reserve", TOKEN),
    "reserved": Row("POST", "/reserve", TOKEN, times=2),
    "commit": Row("POST", "/commit", HELD, ENGLISH),
    "release": Row("POST", "/release", HELD),
    "released": Row("POST", "/release", HELD, times=2),
    "introspect": Row("POST", "/introspect", TOKEN),
    "inactive": Row("POST", "/introspect", {"token": "x"}),
    "revoke": Row("POST", "/revoke", TOKEN, times=2),
    "revoke by id": Row("DELETE", "/{id}"),
    "revoke an unknown id": Row("DELETE", f"/{UNKNOWN_ID}"),
    "revoke all": Row("POST", "/revoke-all", times=2),
    "revoke a purpose": Row("POST", "/revoke-all", {"purpose": "pay"}, ENGLISH),
    "revoke a purpose and a subject": Row("POST", "/revoke-all", {"purpose": "p", "subject": "s"}),
    "receipt": Row("GET", "/{id}"),
    "receipt of an unknown id": Row("GET", f"/{UNKNOWN_ID}", headers=ENGLISH),
    "list": Row("GET", ""),
    "a request id": Row("POST", "/create", {}, {"X-Request-ID": "mine"}),
    "a request id that is none": Row("POST", "/validate", {}, {"X-Request-ID": "a b"}),
    "a trace": Row("POST", "/create", {}, {"traceparent": TRACE}),
    "a proxy": Row("POST", "/create", {}, {"X-Forwarded-For": '"1.2.3.4", 5.6.7.8'}),
    "no proxy where one is": Row("POST", "/create", {}, {"X-Forwarded-For": ""}),
}


class Side:
    """A caller of one door."""

    def __init__(self, app: Flask, door: Doors | None) -> None:
        self.caller = Caller(app.test_client(), enrol(app.test_client().post))
        self.door = door

    def call(self, row: Row) -> TestResponse:
        """Prepare a new token, make the call, and return the response to the last repetition."""
        token = self.caller.create(**row.fields)
        key = secrets.token_hex(4)
        self.caller.post("create", f"{key}-used", expires_in=9)
        named = {"token": token["token"], "id": token["id"], "key": key, "used": f"{key}-used"}
        named["owner"] = self.caller.id
        if row.body == HELD:
            named["reservation"] = self.caller.hold(token["token"])

        def fill(text: str) -> str:
            return re.sub(r"\{(\w+)\}", lambda name: named[name[1]], text)

        body = (
            row.body
            if isinstance(row.body, str | None)
            else json.dumps(row.body, ensure_ascii=False)
        )
        headers = {"Content-Type": "application/json", **row.headers}
        for _ in range(row.times):
            last = self.caller.client.open(
                fill(f"/token{row.path}"),
                method=row.method,
                data=body and fill(body),
                headers=self.caller.headers(**{n: fill(v) for n, v in headers.items()}),
            )
        return last


@pytest.fixture(
    scope="module", params=[{}, {"trusted_proxies": 1}, {"cors_origins": ("http://a.b",)}]
)
def sides(
    request: pytest.FixtureRequest, app: Flask, make_app: Callable[..., Flask]
) -> Iterator[tuple[Side, Side]]:
    """A caller of each door, with limits, as they are by default or behind a proxy or a page."""
    limits = {"rate_limit_create": "900 per hour", "rate_limit_validate": "900 per hour"}
    plain, direct = (make_app(**limits, **request.param) for _ in range(2))
    with always_near():
        yield Side(plain, None), Side(direct, open_door(direct))


def counts() -> dict[Any, float]:
    """All counters, without the times."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name.endswith(("_total", "_count"))
        and not sample.name.startswith(("python_", "process_"))
        and not re.match("token_service_(postgres|log|store)_", sample.name)
    }


def told(side: Side, row: Row, lines: list[str]) -> dict[str, Any]:
    """All that a call tells its caller, the log and the metrics."""
    del lines[:]
    before = counts()
    response = side.call(row)
    after = counts()
    assert len(lines) > row.times
    assert response.headers.get("Content-Length", "0") == str(len(response.data))
    owner = side.caller.id
    seen = {
        "status": response.status_code,
        "headers": [f"{name}: {value}" for name, value in response.headers],
        "body": response.text,
        "lines": list(lines),
        "metrics": {name: after[name] - before.get(name, 0) for name in after},
    }
    seen["metrics"] = {name: more for name, more in seen["metrics"].items() if more}
    return {
        name: CHANGING.sub("*", str(part).replace(owner, "owner")) for name, part in seen.items()
    }


@pytest.mark.parametrize("name", ROWS)
def test_both_doors_tell_the_same(sides: tuple[Side, Side], lines: list[str], name: str) -> None:
    """Status, header fields in their order, body, line of the log and metrics."""
    direct = sides[1]
    assert direct.door
    direct.door.passed.clear()
    expected, found = (told(side, ROWS[name], lines) for side in sides)
    assert found == expected
    assert direct.door.passed["direct"] >= ROWS[name].times
    assert direct.door.passed["flask"] == 0


def test_both_doors_refuse_the_call_over_a_limit(
    app: Flask, make_app: Callable[..., Flask], lines: list[str]
) -> None:
    with always_near():
        seen = []
        for is_direct in (False, True):
            limited = make_app(rate_limit_create="2 per hour")
            door = open_door(limited) if is_direct else None
            side = Side(limited, door)
            seen.append(told(side, Row("POST", "/create"), lines))
    assert seen[0] == seen[1]
    assert seen[0]["status"] == "429"
    assert "Retry-After: " in seen[0]["headers"]


def test_both_doors_refuse_without_redis(
    app: Flask, make_app: Callable[..., Flask], tmp_path: Any, lines: list[str]
) -> None:
    """Its failure is a problem with Retry-After in each."""
    seen = []
    with dev.Redis(tmp_path) as server, always_near():
        for is_direct in (False, True):
            own = make_app(redis_url=server.url)
            door = open_door(own) if is_direct else None
            side = Side(own, door)
            client: FlaskClient = side.caller.client
            side.caller.create()
            server.stop()
            del lines[:]
            response = client.post("/token/create", headers=side.caller.headers())
            server.start()
            assert response.status_code == 503
            fields = [f"{name}: {value}" for name, value in response.headers]
            shown = re.sub(r"\d+\. ", "", str((fields, response.text, lines)))
            seen.append(CHANGING.sub("*", shown.replace(side.caller.id, "owner")))
            assert door is None or door.passed["direct"] >= 1
    assert seen[0] == seen[1]
