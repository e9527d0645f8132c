"""A token may be bound to a purpose, audience, subject and action; a mismatch consumes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tokenservice.onetime import errors
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented, Terms

ANA, LUIS, EVA = (Party(name, f"{name}@example.com") for name in ("ana", "luis", "eva"))
ACTION, OTHER_ACTION = "a" * 64, "b" * 64

MISMATCHES = [
    (Terms(purpose="pay"), {}, "purpose"),
    (Terms(purpose="pay"), {"purpose": "read"}, "purpose"),
    (Terms(), {"purpose": "pay"}, "purpose"),
    (Terms(subject="order 7"), {"subject": "order 8"}, "subject"),
    (Terms(), {"subject": "order 8"}, "subject"),
    (Terms(subject="order 7", require_subject=True), {}, "subject"),
    (Terms(subject="order 7", require_subject=True), {"subject": "order 8"}, "subject"),
    (Terms(require_subject=True), {}, "subject"),
    (Terms(bind=ACTION), {}, "bind"),
    (Terms(bind=ACTION), {"bind": OTHER_ACTION}, "bind"),
    (Terms(), {"bind": ACTION}, "bind"),
    (Terms(), {"issuers": ("eva",)}, "issued_by"),
    (Terms(), {"issuers": ("an", "ana.", ".*", "luis")}, "issued_by"),
    (Terms(purpose="pay"), {"issuers": ("eva",), "purpose": "pay"}, "issued_by"),
    (Terms(data='{"a":"é"}'), {"room": 9}, "data"),
]
MATCHES = [
    (Terms(purpose="pay"), {"purpose": "pay"}),
    (Terms(subject="order 7"), {"subject": "order 7"}),
    (Terms(subject="order 7"), {}),
    (Terms(), {"subject": "ana"}),
    (Terms(subject="order 7", require_subject=True), {"subject": "order 7"}),
    (Terms(require_subject=True), {"subject": "ana"}),
    (Terms(bind=ACTION), {"bind": ACTION}),
    (Terms(), {"issuers": ("ana",)}),
    (Terms(), {"issuers": ("eva", "ana", "luis")}),
    (Terms(data='{"a":"é"}'), {"room": 10}),
    (Terms(), {"room": 1}),
    (Terms("pay", (), "order 7", '{"a":1}', ACTION), {"purpose": "pay", "bind": ACTION}),
]


@pytest.mark.parametrize(("terms", "given", "field"), MISMATCHES)
@pytest.mark.parametrize("verb", ["validate", "reserve"])
def test_a_mismatch_is_named_and_consumes_nothing(
    verb: str, terms: Terms, given: dict[str, Any], field: str, store: TokenStore
) -> None:
    """Guard: mismatch() in terms.lua, and its place before the state changes."""
    token = store.create("ana", life_seconds=10, terms=terms)
    presented = Presented(token.text, **given)
    attempts = {
        "validate": lambda: store.validate(presented, LUIS),
        "reserve": lambda: store.reserve(presented, LUIS, lease_seconds=5),
    }
    with pytest.raises(errors.TokenMismatch) as refusal:
        attempts[verb]()
    assert refusal.value.field == field
    right = Presented(token.text, terms.purpose, terms.subject or "ana", terms.bind)
    store.validate(right, LUIS)


@pytest.mark.parametrize(("terms", "given"), MATCHES)
def test_a_match_is_consumed_and_its_terms_are_returned(
    terms: Terms, given: dict[str, Any], store: TokenStore
) -> None:
    token = store.create("ana", life_seconds=10, terms=terms)
    consumed = store.validate(Presented(token.text, **given), LUIS)
    assert (consumed.purpose, consumed.subject, consumed.data) == (
        terms.purpose,
        terms.subject or "ana",
        terms.data,
    )


@pytest.mark.parametrize("audience", [("luis",), ("luis@example.com",), ("x", "luis", "y")])
def test_only_the_audience_may_consume(audience: tuple[str, ...], store: TokenStore) -> None:
    """Guard: admits() in terms.lua. Its owner is not in it either, unless named."""
    token = store.create("ana", life_seconds=10, terms=Terms(audience=audience))
    for outsider in (EVA, ANA, Party("lui"), Party("luis@example"), Party("", "")):
        with pytest.raises(errors.TokenNotForCaller):
            store.validate(Presented(token.text), outsider)
        with pytest.raises(errors.TokenNotForCaller):
            store.reserve(Presented(token.text), outsider, lease_seconds=5)
    store.validate(Presented(token.text), LUIS)


def test_an_outsider_does_not_learn_that_a_token_was_consumed(store: TokenStore) -> None:
    token = store.create("ana", life_seconds=10, terms=Terms(audience=("luis",)))
    store.validate(Presented(token.text), LUIS)
    with pytest.raises(errors.TokenNotForCaller):
        store.validate(Presented(token.text), EVA)


def test_a_pattern_in_a_name_is_only_a_name(store: TokenStore) -> None:
    """Guard: the plain find in admits(); a pattern would let `.*` in anywhere."""
    token = store.create("ana", life_seconds=10, terms=Terms(audience=("luis",)))
    for name in (".*", "%w+", "lui.", "luis\nana"):
        with pytest.raises(errors.TokenNotForCaller):
            store.validate(Presented(token.text), Party(name, name))
