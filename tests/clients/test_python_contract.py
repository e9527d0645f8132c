"""The contract of the Python client, in each world: the same calls, values and errors."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

import dev
from tests.clients import worlds
from tests.clients.worlds import World
from tests.stage.service import Service
from token_service_client import (
    AlreadyUsed,
    CallRefused,
    Expired,
    LeaseEnded,
    Lost,
    Malformed,
    Mismatch,
    NotForCaller,
    Refused,
    Reserved,
    Revoked,
    Unknown,
    bind_of,
    email_link,
)
from tokenservice.onetime.format import Token, new_secret

pytestmark = pytest.mark.slow
SECRET = re.compile(r"ot[tr]_\w{20}|osk_\w{20}")


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as running:
        yield running


@pytest.fixture(
    scope="module", params=["service", "service, async", "lost replies", "fake", "fake, async"]
)
def world(request: pytest.FixtureRequest, portal: BlockingPortal) -> Iterator[World]:
    if request.param.startswith("fake"):
        found = worlds.fake(portal if "async" in request.param else None)
    else:
        service: Service = request.getfixturevalue("service")
        server: dev.Redis = request.getfixturevalue("redis_server")
        if "async" in request.param:
            found = worlds.real_async(service, server, portal)
        else:
            found = worlds.real(service, server, lossy=request.param == "lost replies")
    with found as running:
        yield running


def test_a_token_is_consumed_once(world: World) -> None:
    made = world.ticket(subject="ana", data={"room": 7})
    assert (made.state, made.purpose, made.subject) == ("active", "ws.connect", "ana")
    assert made.audience == [world.ids[1]]
    second = datetime.timedelta(seconds=1)
    assert made.expires_in == (made.expires_at - made.server_time) // second
    assert made.replayed == world.loses
    use = world.gateway.consume(made.token, **world.expected)
    assert (use.id, use.subject, use.data) == (made.id, "ana", {"room": 7})
    assert (use.purpose, use.issued_by) == ("ws.connect", world.ids[0])
    assert use.created_at + 60 * second == made.expires_at
    assert use.consumed_at >= use.created_at
    assert use.replayed == world.loses
    with pytest.raises(AlreadyUsed) as refused:
        world.gateway.consume(made.token, **world.expected)
    assert refused.value.consumed_at == use.consumed_at
    assert (refused.value.code, refused.value.status) == ("token_already_used", 409)
    assert refused.value.title


def test_the_issuers_are_a_text_or_a_list(world: World) -> None:
    for issuers in ([world.ids[2], world.ids[0]], (world.ids[0],), world.ids[0]):
        ticket = world.ticket().token
        assert world.gateway.consume(ticket, purpose="ws.connect", issued_by=issuers)


def test_an_expired_token_is_refused(world: World) -> None:
    made = world.ticket(expires_in=1)
    world.wait(1.2)
    with pytest.raises(Expired):
        world.gateway.consume(made.token, **world.expected)


def test_a_revoked_token_is_refused(world: World) -> None:
    one, two = world.ticket(), world.ticket()
    for _ in range(2):
        world.backend.revoke(one.id)
        world.gateway.revoke_token(two.token)
    for made in (one, two):
        with pytest.raises(Revoked):
            world.gateway.consume(made.token, **world.expected)
    with pytest.raises(Unknown):
        world.gateway.revoke(world.ticket().id)  # only its creator has it by its id
    with pytest.raises(NotForCaller):
        world.stranger.revoke_token(world.ticket().token)


def test_a_token_of_before_a_restart_is_refused(world: World) -> None:
    made = world.ticket()
    world.forget(made.id)
    with pytest.raises(Lost):
        world.gateway.consume(made.token, **world.expected)


def test_a_token_is_for_its_audience(world: World) -> None:
    made = world.ticket()
    with pytest.raises(NotForCaller):
        world.stranger.consume(made.token, **world.expected)
    assert world.gateway.consume(made.token, **world.expected)


def test_a_mismatch_names_its_field_and_consumes_nothing(world: World) -> None:
    made = world.ticket(subject="ana", require_subject=True, bind=bind_of({"cents": 25}))
    right = {**world.expected, "subject": "ana", "bind": bind_of({"cents": 25})}
    wrong = {
        "issued_by": world.ids[2],
        "purpose": "admin",
        "subject": "luis",
        "bind": bind_of({"cents": 26}),
    }
    for field, value in wrong.items():
        with pytest.raises(Mismatch) as refused:
            world.gateway.consume(made.token, **{**right, field: value})
        assert refused.value.field == field
    del wrong["issued_by"], wrong["purpose"]
    for field in wrong:
        given = {name: value for name, value in right.items() if name != field}
        with pytest.raises(Mismatch) as refused:
            world.gateway.consume(made.token, **given)
        assert refused.value.field == field
    assert world.gateway.consume(made.token, **right).subject == "ana"


@pytest.mark.parametrize(
    "text", ["", "ott_", "ott_0", "ana", "ott_0\n", "ott_ñ", f"ott_{'0' * 20000}"]
)
def test_a_text_that_is_no_token_is_malformed(world: World, text: str) -> None:
    """Among them what no header and no body carries."""
    with pytest.raises(Malformed):
        world.gateway.consume(text, **world.expected)
    with pytest.raises(Malformed):
        world.gateway.hold(text, **world.expected).__enter__()
    with pytest.raises(Malformed):
        world.gateway.revoke_token(text)


def test_a_made_up_token_is_unknown(world: World) -> None:
    real = world.ticket().token
    made_up = str(Token(real[4:22], real[22:26], new_secret()))
    with pytest.raises(Unknown):
        world.gateway.consume(made_up, **world.expected)


def test_a_hold_consumes_at_the_end_of_its_block(world: World) -> None:
    made = world.ticket(data={"file": "report.pdf"})
    with world.gateway.hold(made.token, **world.expected, lease=30) as held:
        assert (held.id, held.data) == (made.id, {"file": "report.pdf"})
        assert held.lease_expires_at > held.created_at
        with pytest.raises(Reserved) as refused:
            world.gateway.consume(made.token, **world.expected)
        assert 0 < refused.value.retry_after <= 30
    assert world.backend.receipt(made.id).state == "consumed"


def test_a_hold_releases_on_an_error(world: World) -> None:
    made = world.ticket()
    with pytest.raises(ZeroDivisionError), world.gateway.hold(made.token, **world.expected):
        raise ZeroDivisionError
    assert world.backend.receipt(made.id).state == "active"
    assert world.gateway.consume(made.token, **world.expected)


def test_a_hold_that_takes_longer_than_its_lease_says_so(world: World) -> None:
    made = world.ticket()
    with pytest.raises(LeaseEnded), world.gateway.hold(made.token, **world.expected, lease=1):
        world.wait(1.2)
    assert world.backend.receipt(made.id).state == "active"


def test_an_error_after_the_lease_is_the_error_that_is_seen(world: World) -> None:
    begun = []

    def overdue() -> None:
        with world.gateway.hold(world.ticket().token, **world.expected, lease=1):
            begun.append(True)
            world.wait(1.2)
            raise ZeroDivisionError

    while not begun:  # A lost reply may be asked for again after the lease.
        with pytest.raises((ZeroDivisionError, LeaseEnded)) as seen:
            overdue()
    assert seen.type is ZeroDivisionError


def test_peek_consumes_nothing(world: World) -> None:
    made = world.ticket(subject="ana")
    for program in (world.gateway, world.backend):
        seen = program.peek(made.token, issued_by=world.ids[0])
        assert seen
        assert (seen.id, seen.state, seen.subject) == (made.id, "active", "ana")
        assert (seen.bound, seen.issued_by) == (False, world.ids[0])
    assert world.stranger.peek(made.token, issued_by=world.ids[0]) is None
    assert world.gateway.peek(made.token, issued_by=world.ids[2]) is None
    assert world.gateway.peek("ott_0", issued_by=world.ids[0]) is None
    assert world.gateway.consume(made.token, **world.expected)
    assert world.gateway.peek(made.token, issued_by=world.ids[0]) is None


def test_the_receipt_tells_of_the_consume(world: World) -> None:
    made = world.ticket()
    before = world.gateway.receipt(made.id)
    assert (before.state, before.consumed_at, before.consumed_by) == ("active", None, None)
    use = world.gateway.consume(made.token, **world.expected)
    after = world.backend.receipt(made.id)
    assert (after.state, after.consumed_at) == ("consumed", use.consumed_at)
    assert (after.consumed_by, after.replays) == (world.ids[1], 0)
    for wrong in ("0" * 18, "../auth/me", "", "a/b", "ñ"):
        with pytest.raises(Unknown):
            world.backend.receipt(wrong)
        with pytest.raises(Unknown):
            world.backend.revoke(wrong)
    with pytest.raises(Unknown):
        world.stranger.receipt(made.id)


def test_a_batch_has_the_same_terms(world: World) -> None:
    made = world.backend.create_many(3, purpose="ws.connect", audience=[world.ids[1]], subject="a")
    assert len({one.token for one in made}) == 3
    for one in made:
        assert world.gateway.consume(one.token, **world.expected).subject == "a"


def test_a_call_repeated_under_its_key_has_one_outcome(world: World) -> None:
    first, again = (world.ticket(idempotency_key=f"{id(world)}") for _ in range(2))
    assert (first.token, again.replayed) == (again.token, True)
    key = f"use {id(world)}".replace(" ", "-")
    use, repeated = (
        world.gateway.consume(first.token, **world.expected, idempotency_key=key) for _ in range(2)
    )
    assert (repeated.consumed_at, repeated.replayed) == (use.consumed_at, True)
    with pytest.raises(CallRefused) as refused:
        world.ticket(idempotency_key=f"{id(world)}", subject="another")
    assert refused.value.code == "idempotency_mismatch"


def test_a_wrong_field_is_the_programs_own_fault(world: World) -> None:
    token = world.ticket().token
    wrong: list[dict[str, Any]] = [
        {"purpose": "Not A Purpose"},
        {"purpose": ""},
        {"purpose": "auth.reset"},
        {"expires_in": 0},
        {"subject": ""},
        {"bind": "ff"},
        {"data": {"long": "ñ" * 2048}},
        {"audience": []},
        {"audience": ["nobody"]},
        {"idempotency_key": "ñ"},
        {"idempotency_key": ""},
    ]
    for terms in wrong:
        with pytest.raises(CallRefused) as refused:
            world.ticket(**terms)
        assert refused.value.code == "validation_failed", terms
    for expected in ({"issued_by": [world.ids[0]] * 17}, {"purpose": "*"}):
        with pytest.raises(CallRefused) as refused:
            world.gateway.consume(token, **{**world.expected, **expected})
        assert refused.value.code == "validation_failed", expected
    with pytest.raises(CallRefused):
        world.gateway.hold(token, **world.expected, lease=61).__enter__()
    with pytest.raises(CallRefused):
        world.backend.create_many(101, purpose="ws.connect")
    assert world.gateway.consume(token, **world.expected)


def test_purpose_and_issuers_are_never_left_out(world: World) -> None:
    token = world.ticket().token
    calls: list[Any] = [world.gateway.consume, world.gateway.hold]
    for call in calls:
        for given in ({"purpose": "ws.connect"}, {"issued_by": world.ids[0]}, {}):
            with pytest.raises(TypeError), call(token, **given):
                pass
        with pytest.raises(TypeError), call(token, purpose="ws.connect", issued_by=None):
            pass
    for call, args in ((world.gateway.peek, [token]), (world.backend.create, [])):
        with pytest.raises(TypeError):
            call(*args)


def test_nothing_prints_a_secret(world: World) -> None:
    made = world.ticket(data={"room": 7})
    with world.gateway.hold(made.token, **world.expected) as held:
        pass
    with pytest.raises(Refused) as refused:
        world.gateway.consume(made.token, **world.expected)
    printed = f"{made!r} {made} {held!r} {refused.value!r} {refused.value} {refused.value.problem}"
    assert made.id in printed
    assert not SECRET.search(printed)
    assert made.token not in printed
    assert email_link("https://a.example/b", made) == f"https://a.example/b#{made.token}"


def test_times_have_a_zone(world: World) -> None:
    made = world.ticket()
    assert made.expires_at - made.server_time <= datetime.timedelta(seconds=60)
    assert made.expires_at.tzinfo


def test_of_many_at_once_one_succeeds(world: World) -> None:
    made = world.ticket()

    def use(_: int) -> bool:
        try:
            return bool(world.gateway.consume(made.token, **world.expected))
        except AlreadyUsed:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(use, range(16))) == 1
