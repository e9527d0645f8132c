"""A random history of a store, drawn by Hypothesis and compared with the reference.

Time passes by ``PASS_TIME``: it takes from every stored time and life as much as a clock that
moved on would. Nothing in the engine remembers time elsewhere, and the server of the test keeps its
own clock. Where the real clock crosses a boundary during a call, both results are right.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

import dev
from tests.onetime.agreement import agree, drawn_at, later, outcome, shown
from tests.onetime.reference import Moment, Reference
from tokenservice.onetime.format import Token
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import (
    Consumed,
    Created,
    Party,
    Presented,
    Reserved,
    State,
    Terms,
    moment,
)

STEPS = 50
MILLISECOND = timedelta(milliseconds=1)
OPTIONS = {"receipt_seconds": 15, "window_seconds": 8, "max_active": 6}
SHARDS = (1, 3)
MAX_RESTARTS = 1  # Each takes as long as all other steps of a history together.
PASS_TIME = """
local ms = tonumber(ARGV[1])
for _, key in ipairs(redis.call('KEYS', 'ott:*')) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'hash' then
    for _, name in ipairs({ 'created', 'expires', 'lease', 'consumed' }) do
      local time = redis.call('HGET', key, name)
      if time then redis.call('HSET', key, name, time - ms) end
    end
  elseif kind == 'zset' then
    local is_index = string.find(key, ':index:', 1, true)
    local less = is_index and ms * 1000 or ms
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      redis.call('ZINCRBY', key, -less, member)
    end
  end
  local left = redis.call('PTTL', key)
  if left == -1 and string.find(key, ':history$') then left = false end
  if left == -1 then return redis.error_reply(key .. ' is kept for ever') end
  if left then redis.call('PEXPIRE', key, left - ms) end
end
"""
ANA, LUIS, EVA = (Party(name, f"{name}@example.com") for name in ("ana", "luis", "eva"))
# By the number of newer ones: new tokens are drawn most.
TOKENS = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 5, 9])
HOLDS = st.sampled_from([0, 0, 1, 2, 4])
PARTIES = st.sampled_from([LUIS, EVA, ANA])
OWNER_IDS = [ANA.id, LUIS.id]
OWNERS = st.sampled_from(OWNER_IDS)
KEYS = st.sampled_from(["", "k", "l"])
KEYS_OF_CREATES = st.sampled_from(["", "", "k"])
LIVES = st.sampled_from([20, 5])
LEASES = st.sampled_from([3, 60])
ALL_TERMS = st.builds(
    Terms,
    purpose=st.sampled_from(["", "pay"]),
    audience=st.sampled_from([(), (), (), (LUIS.id,), (EVA.correo, ANA.id)]),
    subject=st.sampled_from(["", "order 7"]),
    data=st.sampled_from(["", '{"room":7}']),
    bind=st.sampled_from(["", "c" * 64]),
    asked=st.sampled_from([(), (), ("eva, in other words",)]),
    require_subject=st.sampled_from([False, False, True]),
)
PARTS = st.sampled_from([{}, {"purpose": "pay"}, {"subject": "order 7"}, {"subject": ANA.id}])
# Never whole seconds: quick histories keep away from the boundaries.
PAUSES = st.sampled_from([1_050, 4_050, 9_050, 25_050, 40_050])
CHANGES = st.sampled_from(["", "", "caller", "key", "no key", "request"])
VERBS = st.sampled_from(["validate", "commit", "reserve", "create", "create_many"])
ENDS = st.sampled_from(["release", "time"])
LATE_VERBS = st.sampled_from(["commit", "release", "reserve"])
WRONGS = st.sampled_from(
    [
        *("purpose", "no purpose", "subject", "right subject", "bind", "no bind"),
        *("issuer", "right issuer", "no room", "secret", "typo"),
    ]
)


@dataclasses.dataclass(frozen=True)
class Call:
    """A call under an idempotency key."""

    verb: str
    about: Any
    caller: Any
    more: dict[str, Any]


needs_token = precondition(lambda self: self.issued)
needs_hold = precondition(lambda self: self.holds)


class History(RuleBasedStateMachine):
    """One history of a store.

    Draws must not depend on results, or a slow machine could make Hypothesis report the test as
    not deterministic. So tokens and reservations are drawn by the number of newer ones, and
    refused ones count too.
    """

    def __init__(self, server: dev.Redis, stores: dict[int, TokenStore], client: Any) -> None:
        super().__init__()
        self.server, self.stores, self.client = server, stores, client
        self.issued: list[tuple[str, Terms]] = []
        self.holds: list[tuple[str, Party]] = []
        self.calls: list[Call] = []
        self.first_successes: dict[str, Consumed] = {}
        self.lost: set[str] = set()
        self.passed = self.passed_when_saved = timedelta(0)
        self.restarts = 0
        self.disagreed = False

    @initialize(shards=st.sampled_from(SHARDS))
    def begin(self, shards: int) -> None:
        self.client.flushall()
        self.dump.unlink(missing_ok=True)
        self.store = self.stores[shards]
        self.reference = Reference(self.term(), shards=shards, **OPTIONS)
        self.clock = self.read_clock()

    # Verbs that change tokens

    @rule(owner=OWNERS, life=LIVES, terms=ALL_TERMS, key=KEYS_OF_CREATES)
    def create(self, owner: str, life: int, terms: Terms, key: str) -> None:
        created = self.call("create", None, owner, life_seconds=life, terms=terms, key=key)
        self.line_up([created], terms)

    @rule(
        owner=OWNERS,
        count=st.integers(1, 4),
        life=LIVES,
        terms=ALL_TERMS,
        key=KEYS_OF_CREATES,
    )
    def create_many(self, owner: str, count: int, life: int, terms: Terms, key: str) -> None:
        created = self.call("create_many", count, owner, life_seconds=life, terms=terms, key=key)
        self.line_up(created if isinstance(created, list) else [None] * count, terms)

    @needs_token
    @rule(token=TOKENS, caller=PARTIES, key=KEYS, twice=st.booleans())
    def validate(self, token: int, caller: Party, key: str, twice: bool) -> None:
        for _ in range(1 + twice):
            self.call("validate", self.presented(token), caller, key=key)

    @needs_token
    @rule(token=TOKENS, caller=PARTIES, key=KEYS, wrong=WRONGS)
    def validate_wrongly(self, token: int, caller: Party, key: str, wrong: str) -> None:
        self.call("validate", self.presented_wrongly(token, wrong), caller, key=key)

    @needs_token
    @rule(token=TOKENS, caller=PARTIES, lease=LEASES, key=KEYS, twice=st.booleans())
    def reserve(self, token: int, caller: Party, lease: int, key: str, twice: bool) -> None:
        for _ in range(1 + twice):
            self.hold_for(caller, token, lease, key)

    @needs_token
    @rule(token=TOKENS, callers=st.tuples(PARTIES, PARTIES), ends=ENDS, late=LATE_VERBS)
    def take_over(self, token: int, callers: tuple[Party, Party], ends: str, late: str) -> None:
        """One reservation ends, the next begins, and the first holder comes late."""
        first, second = callers
        ended = self.hold_for(first, token, 3, "k")
        if ends == "release":
            self.call("release", *ended)
        else:
            self.let_pass(4_050)
        self.hold_for(second, token, 3, "l")
        if late == "reserve":
            self.hold_for(first, token, 3, "k")
        else:
            self.call(late, *ended)

    @needs_token
    @rule(token=TOKENS, caller=PARTIES, wrong=WRONGS)
    def reserve_wrongly(self, token: int, caller: Party, wrong: str) -> None:
        given = self.presented_wrongly(token, wrong)
        self.call("reserve", given, caller, lease_seconds=3, key="")

    @needs_hold
    @rule(hold=HOLDS, key=KEYS, twice=st.booleans())
    def commit(self, hold: int, key: str, twice: bool) -> None:
        for _ in range(1 + twice):
            self.call("commit", *self.hold(hold), key=key)

    @needs_hold
    @rule(hold=HOLDS)
    def release(self, hold: int) -> None:
        self.call("release", *self.hold(hold))

    @needs_hold
    @rule(hold=HOLDS, caller=PARTIES, verb=st.sampled_from(["commit", "release"]))
    def use_hold_of_anyone(self, hold: int, caller: Party, verb: str) -> None:
        self.call(verb, self.hold(hold)[0], caller)

    @needs_token
    @rule(token=TOKENS, caller=PARTIES, wrong=st.sampled_from(["", "", "", "secret", "typo"]))
    def revoke(self, token: int, caller: Party, wrong: str) -> None:
        self.call("revoke", self.presented_wrongly(token, wrong).text, caller)

    @needs_token
    @rule(token=TOKENS, caller=PARTIES)
    def revoke_by_id(self, token: int, caller: Party) -> None:
        self.call("revoke_id", Token.parse(self.text(token)).id, caller)

    @rule(owner=OWNERS, part=PARTS)
    def revoke_all(self, owner: str, part: dict[str, str]) -> None:
        self.call("revoke_all", None, owner, **part)

    @precondition(lambda self: self.calls)
    @rule(verb=VERBS, back=st.integers(0, 3), change=CHANGES, caller=PARTIES)
    def repeat(self, verb: str, back: int, change: str, caller: Party) -> None:
        """Repeat a call with a key, or one that differs from it in one part."""
        calls = [call for call in self.calls if call.verb == verb] or self.calls
        call = calls[-1 - back % len(calls)]
        about, by, more = call.about, call.caller, call.more
        if change == "caller":
            by = caller.id if isinstance(by, str) else caller
        elif change == "key":
            more = {**more, "key": "k" if more["key"] == "l" else "l"}
        elif change == "no key":
            more = {**more, "key": ""}
        elif change == "request" and isinstance(about, Presented):
            about = self.presented(0)
        elif change == "request" and "life_seconds" in more:
            more = {**more, "life_seconds": more["life_seconds"] + 1}
        self.call(call.verb, about, by, **more)

    # Verbs that read them

    @needs_token
    @rule(token=TOKENS, caller=PARTIES, wrong=st.sampled_from(["", "", "secret", "typo"]))
    def introspect(self, token: int, caller: Party, wrong: str) -> None:
        self.call("introspect", self.presented_wrongly(token, wrong).text, caller)

    @needs_token
    @rule(token=TOKENS, reader=st.none() | PARTIES)
    def receipt(self, token: int, reader: Party | None) -> None:
        self.call("receipt", Token.parse(self.text(token)).id, reader)

    @rule(
        owner=OWNERS,
        limit=st.sampled_from([2, 5, 100]),
        state=st.sampled_from(["", "", *State]),
        purpose=st.sampled_from(["", "pay"]),
    )
    def list_all(self, owner: str, limit: int, state: str, purpose: str) -> None:
        self.compare_lists(owner, limit, state=str(state), purpose=purpose)

    @rule()
    def count(self) -> None:
        """Of all shards; again where a state may have changed meanwhile."""
        while True:
            counts = self.store.census()
            if len(moments := self.moments()) == 1:
                break
        self.reference.now, self.reference.lean = moments[0]
        found = sum(count.outstanding for count in counts), sum(count.reserved for count in counts)
        if found != (expected := self.reference.census()):
            self.disagreed = True
            raise AssertionError(f"the census finds {found}, the reference {expected}")

    # Time and crashes

    @rule(pause=PAUSES)
    def pass_time(self, pause: int) -> None:
        self.let_pass(pause)

    @precondition(lambda self: self.restarts < MAX_RESTARTS)
    @rule()
    def save(self) -> None:
        self.save_now()

    @precondition(lambda self: self.restarts < MAX_RESTARTS)
    @rule(after_save=st.booleans())
    def crash(self, after_save: bool) -> None:
        """Every token of the killed process is lost; the snapshot may tell more of it.

        Then callers without a result repeat their calls, and the last holder commits.
        """
        if after_save:
            self.save_now()
        self.restarts += 1
        self.lost |= {Token.parse(text).id for text, _ in self.issued}
        self.server.kill()
        self.server.start()
        self.client.eval(PASS_TIME, 0, (self.passed - self.passed_when_saved) // MILLISECOND)
        self.reference.restart(self.term())
        self.clock = self.read_clock()
        for call in self.calls[-3:]:
            self.call(call.verb, call.about, call.caller, **call.more)
        if self.holds:
            self.call("commit", *self.hold(0), key="")

    def teardown(self) -> None:
        """Present every token as an entitled caller; hold one for longer than all others."""
        if self.disagreed:
            return
        self.compare_whole_lists()
        if self.issued:
            self.hold_for(self.entitled(0), 0, 60, "")
        for token in range(len(self.issued)):
            self.call("validate", self.presented(token), self.entitled(token), key="")
        self.let_pass(36_050)
        self.compare_whole_lists()

    # Calls, comparisons and the clock

    def call(self, verb: str, about: Any, caller: Any, **more: Any) -> Any:
        """Make one call to the engine and to the reference, and compare the outcomes."""
        if more.get("key"):
            self.calls.append(Call(verb, about, caller, more))
        # A create begins with its owner, and a batch has a count.
        if verb in ("create", "revoke_all"):
            args = (caller,)
        elif verb == "create_many":
            args = (caller, about)
        else:
            args = (about, caller)
        before = self.clock
        result = outcome(getattr(self.store, verb), *args, **more)
        actual = later(result, self.passed)
        expected = []
        for reference in self.branches(drawn_at(actual, more), before):
            reference.drawn = actual
            expected.append(outcome(getattr(reference, verb), *args, **more))
            if agree(actual, expected[-1], within=self.clock - before):
                self.reference, reference.drawn = reference, None
                break
        else:
            self.disagreed = True
            actual, *expected = (shown(each) for each in (actual, *expected))
            raise AssertionError(f"{verb}: the engine returns {actual}, the reference {expected}")
        if isinstance(actual, Consumed):
            self.count_success(actual)
        return result

    def entitled(self, token: int) -> Party:
        _, terms = self.issued[-1 - token % len(self.issued)]
        return EVA if EVA.correo in terms.audience else LUIS

    def compare_whole_lists(self) -> None:
        for owner in (ANA, LUIS):
            self.compare_lists(owner.id, 7, state="", purpose="")

    def compare_lists(self, owner: str, limit: int, **wanted: str) -> None:
        """Read all pages; repeat where a state may have changed between two of them."""
        while True:
            listed, cursor = [], ""
            while True:
                page = self.store.list_for(owner, cursor=cursor, limit=limit, **wanted)
                assert len(page.items) <= limit
                listed += page.items
                cursor = page.next_cursor
                if not cursor:
                    break
            moments = self.moments()
            if len(moments) == 1:
                break
        self.reference.now, self.reference.lean = moments[0]
        expected = self.reference.list_all(owner, **wanted)
        if later(listed, self.passed) != expected:
            self.disagreed = True
            raise AssertionError(f"the engine lists {listed}, the reference {expected}")

    def count_success(self, consumed: Consumed) -> None:
        """Check the promise itself, independently of the reference."""
        if not consumed.replayed:
            assert consumed.id not in self.first_successes, "consumed twice"
            assert consumed.id not in self.lost, "consumed by a process that did not issue it"
            self.first_successes[consumed.id] = consumed
        first = self.first_successes[consumed.id]
        assert dataclasses.replace(consumed, replayed=False) == first

    def branches(self, drawn: datetime | None, before: datetime) -> Iterator[Reference]:
        """The reference at each possible moment of the last call."""
        moments = self.moments()
        if drawn and before <= drawn <= self.clock:
            moments = list(dict.fromkeys((drawn, lean) for _, lean in moments))
        for now, lean in moments:
            reference = copy.deepcopy(self.reference) if len(moments) > 1 else self.reference
            reference.now, reference.lean = now, lean
            yield reference

    def moments(self) -> list[Moment]:
        """Read the clock; return the readings possible since the last one."""
        before, self.clock = self.clock, self.read_clock()
        return self.reference.moments(before, self.clock)

    def read_clock(self) -> datetime:
        """The time of the server, plus all the time that was let pass."""
        seconds, microseconds = self.client.time()
        return moment(seconds * 1000 + microseconds // 1000) + self.passed

    def save_now(self) -> None:
        # Not while the end of a life is uncertain: the snapshot would know, and the model not.
        while len(moments := self.moments()) > 1:
            pass
        self.reference.now, self.reference.lean = moments[0]
        self.client.save()
        self.reference.save()
        self.passed_when_saved = self.passed

    def let_pass(self, milliseconds: int) -> None:
        self.client.eval(PASS_TIME, 0, milliseconds)
        self.passed += timedelta(milliseconds=milliseconds)
        self.clock = self.read_clock()

    def term(self) -> bytes:
        run_id = self.client.info("server")["run_id"]
        mastership = self.client.info("replication")["master_replid"]
        return f"{run_id[:24]}{mastership[:24]}".encode()

    @property
    def dump(self) -> Any:
        return self.server.directory / "dump.rdb"

    def line_up(self, tokens: list[Any], terms: Terms) -> None:
        """Remember new tokens; a refused one repeats the one before it."""
        for token in tokens:
            if isinstance(token, Created):
                self.issued.append((token.text, terms))
            else:
                self.issued.append(self.issued[-1])

    def hold_for(self, caller: Party, token: int, lease: int, key: str) -> tuple[str, Party]:
        """Reserve a token; where that is refused, return an earlier reservation."""
        given = self.presented(token)
        held = self.call("reserve", given, caller, lease_seconds=lease, key=key)
        if isinstance(held, Reserved):
            self.holds.append((held.text, caller))
        else:
            self.holds.append(self.holds[-1] if self.holds else (given.text, caller))
        return self.holds[-1]

    def text(self, token: int) -> str:
        return self.issued[-1 - token % len(self.issued)][0]

    def hold(self, hold: int) -> tuple[str, Party]:
        return self.holds[-1 - hold % len(self.holds)]

    def presented(self, token: int) -> Presented:
        text, terms = self.issued[-1 - token % len(self.issued)]
        subject = terms.subject if terms.require_subject else ""
        return Presented(text, terms.purpose, subject, terms.bind)

    def presented_wrongly(self, token: int, wrong: str) -> Presented:
        right = self.presented(token)
        if wrong in ("secret", "typo"):
            parsed = Token.parse(right.text)
            text = str(dataclasses.replace(parsed, secret=parsed.secret[::-1]))
            return dataclasses.replace(right, text=text[:-1] if wrong == "typo" else text)
        changes = {
            "purpose": {"purpose": "read"},
            "no purpose": {"purpose": ""},
            "subject": {"subject": "order 8"},
            "right subject": {"subject": "order 7"},
            "bind": {"bind": "d" * 64},
            "no bind": {"bind": ""},
            "issuer": {"issuers": (EVA.id,)},
            "no room": {"room": 1},
            "right issuer": {"issuers": (EVA.id, *OWNER_IDS)},
        }
        return dataclasses.replace(right, **changes.get(wrong, {}))
