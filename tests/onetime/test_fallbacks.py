"""The secret changes while tokens are outstanding: another one is honoured, and signs nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.stage.topologies import Topology
from tokenservice.onetime import errors
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

LUIS = Party("luis", "luis@example.com")
OLD, NEW = b"the old one", b"the new one"
Opened = Callable[..., TokenStore]


@pytest.fixture
def opened(topology: Topology, open_store: Opened) -> Opened:
    """Open a store with a secret and its fallbacks, on servers that hold nothing yet."""
    topology.clear()

    def with_secrets(secret: bytes, *fallbacks: bytes) -> TokenStore:
        options = {"secret": secret, "fallbacks": fallbacks, "shards": topology.shards}
        return open_store(topology.url, **options)

    return with_secrets


@pytest.mark.parametrize(
    ("before", "after"),
    [((OLD,), (NEW, OLD)), ((NEW, OLD), (OLD, NEW)), ((OLD,), (NEW, b"another", OLD))],
    ids=["swapped", "not yet swapped", "one of several"],
)
def test_what_a_fallback_signed_is_honoured(
    before: tuple[bytes, ...], after: tuple[bytes, ...], opened: Opened
) -> None:
    """Guard: ``fallbacks`` in TokenStore, for reservations and for keyed creates."""
    first, second = opened(*before), opened(*after)
    token = first.create("ana", life_seconds=10, key="k")
    batch = first.create_many("ana", 2, life_seconds=10, key="k")
    again = second.create("ana", life_seconds=10, key="k")
    assert (again.text, again.replayed) == (token.text, True)
    repeated = second.create_many("ana", 2, life_seconds=10, key="k")
    assert [each.text for each in repeated] == [each.text for each in batch]

    held = first.reserve(Presented(token.text), LUIS, lease_seconds=5, key="r")
    other = first.reserve(Presented(batch[0].text), LUIS, lease_seconds=5)
    second.release(other.text, LUIS)
    # A repeat has the reservation under the secret of its instance; both are good.
    assert second.reserve(Presented(token.text), LUIS, lease_seconds=5, key="r").id == held.id
    committed = second.commit(held.text, LUIS, key="c")
    assert not committed.replayed
    assert first.commit(held.text, LUIS, key="c").replayed


def test_a_secret_that_was_dropped_is_honoured_no_more(opened: Opened) -> None:
    """The twin: and a fallback signs nothing."""
    old, both, new = opened(OLD), opened(NEW, OLD), opened(NEW)
    token = old.create("ana", life_seconds=10, key="k")
    held = old.reserve(Presented(token.text), LUIS, lease_seconds=5)
    for verb in (new.commit, new.release):
        with pytest.raises(errors.TokenUnknown):
            verb(held.text, LUIS)
    with pytest.raises(errors.IdempotencyMismatch):
        new.create("ana", life_seconds=10, key="k")
    derived = both.create("ana", life_seconds=10, key="l")
    assert new.create("ana", life_seconds=10, key="l").text == derived.text
    reserved = both.reserve(Presented(derived.text), LUIS, lease_seconds=5)
    new.commit(reserved.text, LUIS)


def test_only_its_holder_has_a_reservation_under_a_fallback(opened: Opened) -> None:
    old, both = opened(OLD), opened(NEW, OLD)
    held = old.reserve(Presented(old.create("ana", life_seconds=10).text), LUIS, lease_seconds=5)
    with pytest.raises(errors.TokenUnknown):
        both.commit(held.text, Party("eva"))
