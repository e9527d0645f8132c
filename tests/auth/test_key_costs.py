"""The calls to Redis that a call with a key makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from flask import Flask
from prometheus_client import REGISTRY

from tests.stage.doors import always_near, open_door
from tests.stage.keys import bearer, new_key
from tests.stage.people import enrol


def asked() -> Counter[str]:
    """The calls to Redis of this process, by verb."""
    return Counter(
        {
            sample.labels["call"]: int(sample.value)
            for metric in REGISTRY.collect()
            for sample in metric.samples
            if sample.name == "token_service_redis_call_duration_seconds_count"
        }
    )


@pytest.mark.parametrize("is_direct", [False, True], ids=["flask", "direct"])
def test_a_key_asks_redis_as_often_as_a_person_and_a_refused_one_not_at_all(
    app: Flask, make_app: Callable[..., Flask], is_direct: bool
) -> None:
    """Scope and purpose are judged first. Guard: the order in ``plans.perform``."""
    # Below a hundred, each call is counted in Redis.
    own = make_app(rate_limit_create="90 per hour", rate_limit_validate="90 per hour")
    person = enrol(own.test_client().post)

    def key(**fields: object) -> dict[str, str]:
        return bearer(new_key(own.test_client().post, person, **fields)["key"])

    plain, limited = key(), key(limits={"create": "80 per hour"})
    reads, pays = key(scopes=["token:read"]), key(purposes=["pay"])
    with always_near():
        if is_direct:
            open_door(own)
        client = own.test_client()

        def told(headers: dict[str, str], **body: object) -> tuple[int, dict[str, int]]:
            before = asked()
            status = client.post("/token/create", json=body, headers=headers).status_code
            return status, dict(asked() - before)

        once = {"limit": 1, "create": 1}
        for headers in (person.headers, plain):
            assert told(headers) == (201, once)
        assert told(pays, purpose="pay") == (201, once)
        assert told(limited) == (201, {"limit": 2, "create": 1})
        assert told(reads) == (403, {})
        assert told(pays, purpose="play") == (403, {})
        assert told(pays) == (403, {})
        # What is malformed counts, as ever.
        assert told(pays, purpose="A") == (422, {"limit": 1})
