"""The limits of a login: by address, by account, and by both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import redis
from flask.testing import FlaskClient

from tests.stage.limits import DEFAULTS, WRONG, assert_limited, fields, log_in, statuses
from tests.stage.people import PASSWORD, Person

# Every test starts with empty counters.
pytestmark = pytest.mark.usefixtures("counters")


@pytest.fixture
def ana(person: Person) -> Person:
    return person


@pytest.fixture
def berta(other: Person) -> Person:
    return other


def test_five_wrong_passwords_lock_out_the_right_one(
    limited: Callable[..., FlaskClient], ana: Person, berta: Person
) -> None:
    """But not another account, nor the same account from another address (ASVS 5.0 V6.3.1)."""
    client = limited(**DEFAULTS)
    responses = [log_in(client, ana.correo, WRONG) for _ in range(5)]
    assert statuses(responses) == [401] * 5
    assert [fields(response)[3] for response in responses] == [4, 3, 2, 1, 0]
    assert_limited(log_in(client, ana.correo, PASSWORD), "login")
    assert log_in(client, berta.correo, PASSWORD).status_code == 200
    assert log_in(client, ana.correo, PASSWORD, "192.0.2.7").status_code == 200


def test_a_successful_login_is_no_failure(limited: Callable[..., FlaskClient], ana: Person) -> None:
    """Guard: ``login_limits.settle``."""
    client = limited(**DEFAULTS)
    responses = [log_in(client, ana.correo, PASSWORD) for _ in range(12)]
    assert statuses(responses) == [200] * 12
    assert {fields(response)[3] for response in responses} == {5}
    # Nor does it clear earlier failures, which would let a guesser with an account go on.
    assert statuses([log_in(client, ana.correo, WRONG) for _ in range(5)]) == [401] * 5
    assert_limited(log_in(client, ana.correo, PASSWORD), "login")


def test_an_unchecked_login_is_no_failure(limited: Callable[..., FlaskClient], ana: Person) -> None:
    """An outage of Postgres locks out no account. Guard: the 500 in ``login_limits.settle``."""
    away = limited(**DEFAULTS, database_url="postgresql://nobody@127.0.0.1:1/nothing")
    assert statuses([log_in(away, ana.correo, PASSWORD) for _ in range(8)]) == [503] * 8
    client = limited(**DEFAULTS)
    assert statuses([log_in(client, ana.correo, WRONG) for _ in range(6)]) == [401] * 5 + [429]


def test_all_spellings_of_a_correo_are_counted_as_one(
    limited: Callable[..., FlaskClient], ana: Person
) -> None:
    """Guard: ``emails.canonical`` in ``login_limits.account``."""
    client = limited(**DEFAULTS)
    local_part, _, domain = ana.correo.partition("@")
    full_width = "".join(chr(ord(letter) + 0xFEE0) for letter in "person")
    spellings = [
        ana.correo,
        ana.correo.upper(),
        f"  {ana.correo}\t",
        f"{local_part.title()}@{domain.upper()}",
        local_part.replace("person", full_width) + f"@{domain}",
    ]
    assert statuses([log_in(client, spelling, WRONG) for spelling in spellings]) == [401] * 5
    assert_limited(log_in(client, ana.correo, PASSWORD), "login")
    form = {"username": ana.correo.upper(), "password": PASSWORD}
    assert_limited(client.post("/auth/login", data=form), "login")


def test_one_address_may_try_sixty_times_a_minute(
    limited: Callable[..., FlaskClient], ana: Person
) -> None:
    """Over all accounts, and successes count: each costs a hash."""
    client = limited(**DEFAULTS)
    responses = [log_in(client, ana.correo, PASSWORD) for _ in range(10)]
    responses += [log_in(client, f"x{n}@example.com", WRONG) for n in range(50)]
    assert Counter(statuses(responses)) == {200: 10, 401: 50}
    refused = log_in(client, "y@example.com", WRONG)
    assert_limited(refused, "login-address")
    assert refused.headers["RateLimit-Policy"] == '"login-address";q=60;w=60'
    assert log_in(client, "y@example.com", WRONG, "192.0.2.1").status_code == 401


def test_one_account_takes_a_hundred_failures_an_hour_from_everywhere(
    limited: Callable[..., FlaskClient], ana: Person, berta: Person
) -> None:
    """NIST SP 800-63B-4 section 3.2.2."""
    client = limited(**DEFAULTS)
    for n in range(100):
        assert log_in(client, ana.correo, WRONG, f"192.0.{n // 5}.1").status_code == 401
    refused = log_in(client, ana.correo, WRONG, "192.0.200.1")
    assert_limited(refused, "login-correo")
    assert refused.headers["RateLimit-Policy"] == '"login-correo";q=100;w=3600'
    assert log_in(client, berta.correo, PASSWORD, "192.0.200.1").status_code == 200


def test_redis_holds_no_correo(
    limited: Callable[..., FlaskClient], ana: Person, counters: redis.Redis
) -> None:
    log_in(limited(**DEFAULTS), ana.correo, WRONG)
    keys = [key.decode() for key in counters.scan_iter()]
    assert len(keys) == 4
    assert all(key.startswith("rate:") for key in keys)
    assert not [key for key in keys if ana.correo in key or ana.correo.partition("@")[0] in key]
    assert all(0 < counters.pttl(key) <= 3_600_000 for key in keys)
