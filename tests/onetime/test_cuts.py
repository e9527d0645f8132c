"""A cut revokes what an owner has outstanding, and nothing that comes after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

import dev
from tests.stage.topologies import Topology
from tokenservice.onetime import errors
from tokenservice.onetime.keys import Keys
from tokenservice.onetime.store import MOST_CUTS, OFF_SECONDS, TokenStore
from tokenservice.onetime.values import Created, Party, Presented, State, Terms

ANA, LUIS, EVA = (Party(name, f"{name}@example.com") for name in ("ana", "luis", "eva"))
PAY, ORDER = Terms(purpose="pay"), Terms(subject="order 7")
#: The check of the cut: workers of the release before have scripts without it.
CUT = (
    "  if record.term == term_now\n    and seq < cut_of(record.owner, record.purpose or '',"
    " record.subject) then return 'revoked' end\n"
)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[dev.Redis]:
    """A Redis that the test may fill, change and crash."""
    with dev.Redis(tmp_path) as server:
        yield server


def keys_of(topology: Topology, owner: str = "ana") -> Keys:
    return Keys.of_owner(owner, topology.shards)


def outcome(store: TokenStore, token: Created, purpose: str = "") -> str:
    try:
        store.validate(Presented(token.text, purpose), LUIS)
    except errors.TokenRefused as refusal:
        return refusal.code
    return "consumed"


def test_every_verb_finds_an_unused_token_revoked(store: TokenStore) -> None:
    """Guard: cut_of() in state_of()."""
    token, keyed = (store.create("ana", life_seconds=60, key=key) for key in ("", "made"))
    held, kept = store.create_many("ana", 2, life_seconds=60)
    lease = store.reserve(Presented(held.text), LUIS, lease_seconds=60)
    store.reserve(Presented(kept.text), LUIS, lease_seconds=60, key="kept")

    store.revoke_all("ana")

    attempts: dict[str, Callable[[], object]] = {
        "validate": lambda: store.validate(Presented(token.text), LUIS),
        "validate, keyed": lambda: store.validate(Presented(token.text), LUIS, key="k"),
        "validate, held": lambda: store.validate(Presented(held.text), LUIS),
        "reserve": lambda: store.reserve(Presented(token.text), LUIS, lease_seconds=5),
        "reserve, repeated": lambda: store.reserve(
            Presented(kept.text), LUIS, lease_seconds=60, key="kept"
        ),
        "commit": lambda: store.commit(lease.text, LUIS),
        "commit, keyed": lambda: store.commit(lease.text, LUIS, key="c"),
        "release": lambda: store.release(lease.text, LUIS),
    }
    for attempt in attempts.values():
        with pytest.raises(errors.TokenRevoked):
            attempt()
    assert store.introspect(token.text, LUIS) is None
    assert store.receipt(token.id, ANA).state is State.REVOKED
    items = store.list_for("ana", state="revoked").items
    assert {item.id for item in items} == {made.id for made in (token, keyed, held, kept)}
    # To revoke it again succeeds, and a repeated create says what became of its token.
    store.revoke(token.text, ANA)
    store.revoke_id(held.id, ANA)
    again = store.create("ana", life_seconds=60, key="made")
    assert (again.id, again.state, again.replayed) == (keyed.id, State.REVOKED, True)
    assert not again.life_left


def test_what_was_decided_before_the_cut_stays_so(store: TokenStore) -> None:
    """A consume is still replayed under its key."""
    consumed, committed, revoked = store.create_many("ana", 3, life_seconds=60)
    first = store.validate(Presented(consumed.text), LUIS, key="k")
    lease = store.reserve(Presented(committed.text), LUIS, lease_seconds=60)
    store.commit(lease.text, LUIS, key="c")
    store.revoke_id(revoked.id, ANA)

    store.revoke_all("ana")

    again = store.validate(Presented(consumed.text), LUIS, key="k")
    assert (again.replayed, again.consumed_at) == (True, first.consumed_at)
    assert store.commit(lease.text, LUIS, key="c").replayed
    with pytest.raises(errors.TokenAlreadyUsed):
        store.validate(Presented(consumed.text), EVA)
    states = [store.receipt(token.id).state for token in (consumed, committed, revoked)]
    assert states == [State.CONSUMED, State.CONSUMED, State.REVOKED]


def test_tokens_of_the_same_moment_are_told_apart(store: TokenStore) -> None:
    """Guard: a cut is a number and no time. Many of these rounds take less than a millisecond."""
    shortest = 1.0
    for _ in range(100):
        before = store.create("ana", life_seconds=60)
        store.revoke_all("ana")
        after = store.create("ana", life_seconds=60)
        took = (after.created_at - before.created_at).total_seconds()
        shortest = min(shortest, took)
        assert [outcome(store, token) for token in (before, after)] == ["token_revoked", "consumed"]
    assert shortest <= 0.001


def test_a_cut_is_for_one_owner(store: TokenStore) -> None:
    other = store.create("eva", life_seconds=60)
    store.create("ana", life_seconds=60)
    store.revoke_all("ana")
    assert outcome(store, other) == "consumed"


@pytest.mark.parametrize(
    ("part", "revoked"),
    [({"purpose": "pay"}, {"pay", "both"}), ({"subject": "order 7"}, {"order 7", "both"})],
    ids=["purpose", "subject"],
)
def test_a_narrow_cut_leaves_all_else(
    part: dict[str, str], revoked: set[str], store: TokenStore
) -> None:
    """Guards: the fields of a purpose and of a subject in cut_of()."""
    terms = {
        "plain": Terms(),
        "pay": PAY,
        "another purpose": Terms(purpose="pay.more"),
        "order 7": ORDER,
        "another subject": Terms(subject="pay"),
        "both": Terms(purpose="pay", subject="order 7"),
    }
    made = {name: store.create("ana", life_seconds=60, terms=own) for name, own in terms.items()}
    store.revoke_all("ana", **part)
    found = {name: outcome(store, token, terms[name].purpose) for name, token in made.items()}
    assert {name for name in found if found[name] == "token_revoked"} == revoked
    assert {name for name in found if found[name] == "consumed"} == terms.keys() - revoked
    for name, own in terms.items():
        fresh = store.create("ana", life_seconds=60, terms=own)
        assert outcome(store, fresh, own.purpose) == "consumed", name


def test_a_cut_of_all_frees_the_places_under_the_cap(
    topology: Topology, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: the DEL of the live set. A narrow cut frees none until its tokens expire."""
    topology.clear()
    store = open_store(topology.url, shards=topology.shards, max_active=3)
    store.create_many("ana", 3, life_seconds=60, terms=PAY)
    store.revoke_all("ana", purpose="pay")
    with pytest.raises(errors.TooManyActive):
        store.create("ana", life_seconds=60)
    store.revoke_all("ana")
    for token in store.create_many("ana", 3, life_seconds=60):
        assert outcome(store, token) == "consumed"


def test_the_release_before_finds_the_tokens_of_a_cut_of_all_lost(
    topology: Topology, store: TokenStore, open_store: Callable[..., TokenStore]
) -> None:
    """Its scripts know no cut. It honours the tokens of a narrow one."""
    before = open_store(topology.url, shards=topology.shards)
    for verb, script in before._shards._scripts.items():
        assert CUT in script.source
        source = script.source.replace(CUT, "")
        before._shards._scripts[verb] = script.connection.script(source)
    token, paid = (store.create("ana", life_seconds=60, terms=own) for own in (Terms(), PAY))
    store.revoke_all("ana", purpose="pay")
    assert outcome(before, paid, "pay") == "consumed"
    store.revoke_all("ana")
    assert outcome(before, token) == "token_lost"


def test_a_disabled_owner_creates_nothing_until_it_is_enabled(
    topology: Topology, store: TokenStore
) -> None:
    """Guard: the field `off` in create.lua. It ends by itself, because Postgres then refuses."""
    token = store.create("ana", life_seconds=60, key="made")
    store.revoke_all("ana", purpose="pay", disable=True)
    attempts: list[Callable[[], object]] = [
        lambda: store.create("ana", life_seconds=60),
        lambda: store.create("ana", life_seconds=60, key="made"),
        lambda: store.create_many("ana", 2, life_seconds=60),
    ]
    for attempt in attempts:
        with pytest.raises(errors.OwnerDisabled):
            attempt()
    assert outcome(store, store.create("eva", life_seconds=60)) == "consumed"
    # A cut of all, which replaces the narrow one, leaves the owner disabled.
    store.revoke_all("ana")
    assert outcome(store, token) == "token_revoked"
    with pytest.raises(errors.OwnerDisabled):
        store.create("ana", life_seconds=60)
    client, keys = topology.client(), keys_of(topology)
    ends = int(client.hget(keys.cut, "off:ana") or 0)
    assert OFF_SECONDS - 30 < ends / 1000 - time.time() < OFF_SECONDS + 30
    assert client.pttl(keys.cut) > (OFF_SECONDS - 30) * 1000

    client.hset(keys.cut, "off:ana", str(ends - (OFF_SECONDS + 60) * 1000))
    assert outcome(store, store.create("ana", life_seconds=60)) == "consumed"
    store.revoke_all("ana", disable=True)
    store.enable("ana")
    store.enable("ana")
    assert outcome(store, store.create("ana", life_seconds=60)) == "consumed"
    assert outcome(store, token) == "token_revoked"


@pytest.mark.parametrize("part", [{}, {"purpose": "pay"}], ids=["all", "purpose"])
@pytest.mark.parametrize("case", ["long life", "long lease"])
def test_a_cut_outlives_every_record_that_it_revokes(
    case: str, part: dict[str, str], topology: Topology, store: TokenStore
) -> None:
    """Guard: the life of the cut, which is the rest of the live set's."""
    life, lease = (3600, 5) if case == "long life" else (5, 3600)
    token = store.create("ana", life_seconds=life, terms=PAY)
    store.reserve(Presented(token.text, "pay"), LUIS, lease_seconds=lease)
    store.create("ana", life_seconds=5)
    store.revoke_all("ana", **part)
    client, keys = topology.client(), keys_of(topology)
    assert client.pttl(keys.cut) >= client.pttl(keys.record(token.id)) - 50 > 3600_000
    # Neither a live set that is made anew nor a later cut shortens it.
    store.create("ana", life_seconds=1)
    for later in ({}, {"subject": "order 7"}):
        store.revoke_all("ana", **later)
        assert client.pttl(keys.cut) >= client.pttl(keys.record(token.id)) - 1000
    assert store.receipt(token.id).state is State.REVOKED


def test_a_record_below_the_cut_stays_for_the_receipt_and_not_for_the_rest_of_its_life(
    topology: Topology, store: TokenStore
) -> None:
    """Guard: the sweep. Places are free after a cut, and could otherwise fill Redis for a day."""
    client, keys = topology.client(), keys_of(topology)
    older = store.create_many("ana", 100, life_seconds=86_400)
    consumed, *_ = older
    store.validate(Presented(consumed.text), LUIS)
    store.revoke_all("ana")
    newer = store.create_many("ana", 100, life_seconds=86_400)  # It sweeps all that there are.
    assert max(client.pttl(keys.record(token.id)) for token in older) <= 60_000
    assert min(client.pttl(keys.record(token.id)) for token in newer) > 86_000_000
    assert outcome(store, older[1]) == "token_revoked"
    assert outcome(store, newer[0]) == "consumed"
    # Without a cut none is shortened: another owner.
    others, _ = (store.create_many("eva", 100, life_seconds=86_400) for _ in "ab")
    assert min(client.pttl(Keys.of_token(token.id).record(token.id)) for token in others) > 86e6


def test_a_revoked_token_stays_so_beyond_its_life(store: TokenStore) -> None:
    """`token_revoked` is final: its place in state_of() is before the end of the life."""
    token = store.create("ana", life_seconds=1)
    store.revoke_all("ana")
    time.sleep(1.2)
    assert outcome(store, token) == "token_revoked"


def test_narrow_cuts_are_bounded_and_a_cut_of_all_replaces_them(
    topology: Topology, store: TokenStore
) -> None:
    """Guard: the count of narrow fields in revoke_all.lua."""
    client, keys = topology.client(), keys_of(topology)
    token = store.create("ana", life_seconds=60, terms=Terms(subject="0"))
    for number in range(MOST_CUTS):
        store.revoke_all("ana", subject=str(number))
    assert client.hlen(keys.cut) == MOST_CUTS + 1
    with pytest.raises(errors.TooManyCuts) as refusal:
        store.revoke_all("ana", purpose="pay")
    assert 60 < refusal.value.seconds <= 120
    store.revoke_all("ana", subject="0")
    assert outcome(store, token) == "token_revoked"

    store.revoke_all("ana")

    assert list(client.hgetall(keys.cut)) == [b"all"]
    paid = store.create("ana", life_seconds=60, terms=PAY)
    store.revoke_all("ana", purpose="pay")
    assert [outcome(store, paid, "pay"), outcome(store, token)] == ["token_revoked"] * 2


def test_without_outstanding_tokens_nothing_is_written(
    topology: Topology, store: TokenStore
) -> None:
    for part in ({}, {"purpose": "pay"}):
        store.revoke_all("ana", **part)
    store.enable("ana")
    keys = keys_of(topology)
    assert not topology.client().exists(keys.cut, keys.history)
    token = store.create("ana", life_seconds=60)
    store.revoke_all("ana")
    store.revoke_all("ana")
    assert outcome(store, token) == "token_revoked"


def test_a_cut_works_on_a_full_server(
    own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: the HDEL in revoke_all.lua."""
    store, admin = open_store(own_redis.url), redis.Redis.from_url(own_redis.url)
    token = store.create("ana", life_seconds=60)
    admin.config_set("maxmemory", "1")
    store.revoke_all("ana", disable=True)
    assert outcome(store, token) == "token_revoked"
    store.enable("ana")


@pytest.mark.parametrize("saved", ["before the cut", "after the cut"])
def test_after_a_crash_no_token_of_before_the_cut_is_honoured(
    saved: str, own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    store, admin = open_store(own_redis.url), redis.Redis.from_url(own_redis.url)
    for number in range(20):  # Counts that a snapshot may lack.
        store.validate(Presented(store.create("eva", life_seconds=60).text), LUIS)
        if number == 10 and saved == "before the cut":
            token, held = store.create_many("ana", 2, life_seconds=60)
            lease = store.reserve(Presented(held.text), LUIS, lease_seconds=60)
            admin.save()
    if saved == "after the cut":
        token, held = store.create_many("ana", 2, life_seconds=60)
        lease = store.reserve(Presented(held.text), LUIS, lease_seconds=60)
    store.revoke_all("ana")
    if saved == "after the cut":
        admin.save()
    own_redis.kill()
    own_redis.start()

    for other in (store, open_store(own_redis.url)):
        assert outcome(other, token) in {"token_revoked", "token_lost"}
        with pytest.raises((errors.TokenRevoked, errors.TokenLost)):
            store.commit(lease.text, LUIS)
        assert outcome(other, other.create("ana", life_seconds=60)) == "consumed"


def test_a_new_token_is_never_below_an_old_cut(
    own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: the count that create.lua raises. Data put back may lack the history of the cut."""
    store, admin = open_store(own_redis.url), redis.Redis.from_url(own_redis.url)
    keys = Keys.of_owner("ana", 1)
    for _ in range(5):
        store.validate(Presented(store.create("ana", life_seconds=60).text), LUIS)
    token = store.create("ana", life_seconds=60)
    store.revoke_all("ana")
    admin.delete(keys.history)
    unaware = open_store(own_redis.url)
    first, second = (unaware.create("ana", life_seconds=60, key=key) for key in ("", "k"))
    assert outcome(unaware, token) == "token_revoked"
    assert [outcome(unaware, fresh) for fresh in (first, second)] == ["consumed"] * 2
    # Nobody takes the raised count for one that went back.
    assert admin.hget(keys.history, "floor") is None


def test_a_cut_that_notices_lost_data_leaves_later_tokens_good(
    own_redis: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """The floor is raised in the same step, and the cut is above it."""
    store, admin = open_store(own_redis.url), redis.Redis.from_url(own_redis.url)
    keys = Keys.of_owner("ana", 1)
    for _ in range(5):
        store.validate(Presented(store.create("ana", life_seconds=60).text), LUIS)
    token = store.create("ana", life_seconds=60)
    admin.hset(keys.history, "count", "2")
    store.revoke_all("ana")
    assert int(admin.hget(keys.cut, "all") or 0) > int(admin.hget(keys.history, "floor") or 0) > 5
    assert outcome(store, token) in {"token_revoked", "token_lost"}
    for other in (store, open_store(own_redis.url)):
        assert outcome(other, other.create("ana", life_seconds=60)) == "consumed"
