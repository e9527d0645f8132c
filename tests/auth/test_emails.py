"""Canonical addresses: one mailbox is one account in any spelling."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from tests.stage.people import PASSWORD
from tokenservice.auth.emails import MAX_LENGTH, canonical, masked

LETTERS = st.characters(codec="utf-8")
LOCAL = st.text(LETTERS, min_size=1, max_size=64)
DOMAIN = st.lists(st.text(LETTERS, min_size=1, max_size=12), min_size=1, max_size=4).map(".".join)
ADDRESSES = st.emails() | st.builds("{}@{}".format, LOCAL, DOMAIN | st.just("example.com"))


def spelling(text: str) -> str | None:
    """The canonical form, or None; any error but ValueError fails the test."""
    try:
        return canonical(text)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("ana@example.com", "ana@example.com"),
        ("  Ana@Example.COM\n", "ana@example.com"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER A}na@example.com", "ana@example.com"),
        ("\N{KELVIN SIGN}im@example.com", "kim@example.com"),
        ("jose\u0301@example.com", "josé@example.com"),
        ("JOSÉ@EXAMPLE.COM", "josé@example.com"),
        ("ana@xn--exmple-qta.com", "ana@exámple.com"),
        ("ana@EXÁMPLE.com", "ana@exámple.com"),
        ("ana@example。com", "ana@example.com"),
        ("ana+tag@example.com", "ana+tag@example.com"),
    ],
)
def test_all_spellings_of_a_mailbox_have_one_canonical_form(given: str, stored: str) -> None:
    """S15. Red without NFKC, ``lower`` or the domain's normal form, each in one row."""
    assert canonical(given) == stored


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("mike@example.com", "m\N{LATIN SMALL LETTER DOTLESS I}ke@example.com"),
        ("ana@example.com", "\N{CYRILLIC SMALL LETTER A}na@example.com"),
        ("a.na@example.com", "ana@example.com"),
        ("ana@example.com", "ana@example.org"),
        ("straße@example.com", "strasse@example.com"),
    ],
)
def test_look_alikes_stay_distinct(one: str, another: str) -> None:
    """S15: a dotless i is not an i, so neither takes over the other's account."""
    assert canonical(one) != canonical(another)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ana",
        "@example.com",
        "ana@",
        "ana@@example.com",
        "ana@example.com, eva@example.com",
        "Ana <ana@example.com>",
        "ana@[127.0.0.1]",
        '"ana eva"@example.com',
        "ana@exa mple.com",
        "ana\0@example.com",
        "ana\r\nBcc: eva@example.com",
        "ana@-example.com",
        "ana@localhost",
        "\ud800@example.com",
        "ana@\ud800.com",
        "ana@" + "b" * 260 + ".com",
        "ﷺ" * 5000,
        "@" * 16_000,
        "ana@" + "a." * 8_000 + "com",
        "ana@" + "xn--" * 20 + ".com",
        "ana@xn--a.com",
    ],
    ids=lambda text: repr(text[:24]),
)
def test_a_malformed_address_is_a_value_error(text: str) -> None:
    assert spelling(text) is None


@given(ADDRESSES)
def test_canonical_is_idempotent_and_fits_the_column(text: str) -> None:
    """Any stored spelling can log in, and fits the column in Postgres."""
    once = spelling(text)
    if once is None:
        return
    assert canonical(once) == once
    assert len(once) <= MAX_LENGTH
    assert once.encode()


@given(st.text())
def test_canonical_raises_nothing_but_value_error(text: str) -> None:
    spelling(text)


@pytest.mark.parametrize(
    "text",
    [
        "İ@example.com",
        "ΑΣ@example.com",
        "ẞ@example.com",
    ],
)
def test_canonical_is_idempotent_for_letters_that_change_when_lowered(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == once


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("Ana@Printer.LOCAL", "ana@printer.local"),
        ("ana@app.test", "ana@app.test"),
        ("ana@EXÁMPLE.local", "ana@exámple.local"),
        ("ana@printer。local", "ana@printer.local"),
        ("ana@local", None),
        ("ana@test", None),
        ("ana@localhost", None),
        ("ana@my.localhost", None),
        ("ana@my.invalid", None),
        ("ana@my.onion", None),
        ("ana@my.home.arpa", None),
        ("ana@-.local", None),
    ],
)
def test_local_domains_are_for_closed_networks(given: str, stored: str | None) -> None:
    """Red without the check of the last label. Other names that lead nowhere stay refused."""
    assert spelling(given) is None
    if stored is None:
        with pytest.raises(ValueError, match="not an e-mail address"):
            canonical(given, local_domains=True)
    else:
        assert canonical(given, local_domains=True) == stored


@pytest.mark.parametrize("domain", ["local", "test"])
def test_an_account_at_a_local_domain_needs_the_setting(
    make_app: Callable[..., Flask], app: Flask, domain: str
) -> None:
    """In every place that reads an address."""
    correo = f"ana@{secrets.token_hex(4)}.{domain}"
    account = {"nombre": "Ana", "correo": correo, "password": PASSWORD}
    credentials = {"correo": correo, "password": PASSWORD}
    closed = make_app(local_domains=True, rate_limit_login="5 per minute")

    assert app.test_client().post("/auth/register", json=account).status_code == 422
    client = closed.test_client()
    assert client.post("/auth/register", json=account).status_code == 201
    login = client.post("/auth/login", json={**credentials, "correo": correo.upper()})
    assert login.status_code == 200
    jwt = {"Authorization": f"Bearer {login.json['access_token']}"}
    token = client.post("/token/create", json={"audience": [correo]}, headers=jwt)
    assert token.status_code == 201
    listed = closed.test_cli_runner().invoke(args=["tokens", "list", correo.upper()])
    assert token.json["id"] in listed.stdout

    assert app.test_client().post("/auth/login", json=credentials).status_code == 422
    # An operator can still shut it out.
    disabled = app.test_cli_runner().invoke(args=["users", "disable", correo])
    assert disabled.exit_code == 0


@pytest.mark.parametrize(
    ("given", "shown"),
    [("ana@example.com", "a***@example.com"), ("", "***@"), ("x", "x***@")],
)
def test_a_log_never_holds_a_whole_address(given: str, shown: str) -> None:
    assert masked(given) == shown
