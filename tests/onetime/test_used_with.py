"""The keys of parties: named by the record, and held apart from each other."""

from __future__ import annotations

import pytest

from tokenservice.onetime import errors
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented, Terms

ANA = Party("ana")
ONE, TWO = Party("luis", key_id="1" * 18), Party("luis", key_id="2" * 18)
LUIS = Party("luis")
WITH_ONE = Terms(issued_with=ONE.key_id)


def test_a_validate_and_a_commit_name_the_keys(store: TokenStore) -> None:
    """Also repeated under an idempotency key."""
    for caller in (ONE, LUIS):
        for terms in (WITH_ONE, Terms()):
            used = terms.issued_with or None, caller.key_id or None
            token = store.create("ana", life_seconds=30, terms=terms)
            for _ in range(2):
                done = store.validate(Presented(token.text), caller, key=token.id)
                assert (done.issued_with, done.consumed_with) == used
            receipt = store.receipt(token.id, ANA)
            assert (receipt.issued_with, receipt.consumed_with) == used

            token = store.create("ana", life_seconds=30, terms=terms)
            held = store.reserve(Presented(token.text), caller, lease_seconds=30)
            assert held.issued_with == used[0]
            assert store.receipt(token.id, ANA).consumed_with is None
            for _ in range(2):
                done = store.commit(held.text, caller, key=token.id)
                assert (done.issued_with, done.consumed_with) == used


def test_a_batch_and_a_list_name_the_key(store: TokenStore) -> None:
    store.create_many("ana", 3, life_seconds=30, terms=WITH_ONE)
    found = store.list_for("ana").items
    assert [receipt.issued_with for receipt in found] == [ONE.key_id] * 3


def test_a_reservation_is_for_its_key_alone(store: TokenStore) -> None:
    """Guard: ``Party.holder``. Another key of one account may have other rights."""
    for holder in (ONE, LUIS):
        text = store.create("ana", life_seconds=30).text
        held = store.reserve(Presented(text), holder, lease_seconds=30).text
        for other in {ONE, TWO, LUIS} - {holder}:
            for verb in (store.commit, store.release):
                with pytest.raises(errors.TokenUnknown):
                    verb(held, other)
        assert store.commit(held, holder).owner == "ana"
