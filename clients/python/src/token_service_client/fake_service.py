"""The service of ``FakeTokens``: its tokens in memory, its clock, and its failures on demand."""

from __future__ import annotations

import json
import re
import secrets
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from token_service_client.fake_rules import FakeProblem, judge, judge_new

LIFE = 10  # seconds, as the service has it by default
NEVER = datetime.min.replace(tzinfo=UTC)


class Clock:
    """A clock that stands still until it is moved; a client that waits moves it too."""

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._now, self._start = start, start

    def now(self) -> datetime:
        return self._now

    def seconds(self) -> float:
        return (self._now - self._start).total_seconds()

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


@dataclass
class Record:
    """A token as the service keeps it."""

    token: str
    id: str
    owner: str
    terms: dict[str, Any]
    term: int
    created_at: datetime
    expires_at: datetime
    state: str = "active"
    reservation: str = ""
    lease_end: datetime = NEVER
    consumed_at: datetime | None = None
    consumed_by: str | None = None
    replays: int = 0


@dataclass
class FakeService:
    """A service without a network. It knows every account by its e-mail address."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self._records: list[Record] = []
        self._done: dict[tuple[str, str, str], tuple[Any, Any]] = {}
        self._term = 0
        self._failures: list[FakeProblem] = []
        self._to_lose = 0
        self._lock = threading.Lock()

    def restart(self) -> None:
        """Restart the store: outstanding tokens are lost (``Lost``)."""
        self._term += 1

    def fail(self, code: str, *, times: int = 1, retry_after: float = 1) -> None:
        """Refuse the next tries with a problem such as ``busy``, and do nothing."""
        self._failures += [FakeProblem(code, retry_after)] * times

    def lose_replies(self, times: int = 1) -> None:
        """Do what the next tries ask for, and lose the response."""
        self._to_lose += times

    def answer(self, request: httpx.Request) -> httpx.Response:
        """:raises httpx.ReadError: the response is lost"""
        with self._lock:
            try:
                if self._failures:
                    raise self._failures.pop(0)
                response = self._respond(request)
            except FakeProblem as problem:
                response = problem.response()
            if self._to_lose:
                self._to_lose -= 1
                raise httpx.ReadError("lost", request=request)
            return response

    def _respond(self, request: httpx.Request) -> httpx.Response:
        caller = request.headers["Authorization"].removeprefix("Bearer ")
        verb = request.url.path.removeprefix("/token/")
        given = json.loads(request.content or b"{}")
        if request.method == "GET":
            return written(200, self._receipt(caller, verb))
        if request.method == "DELETE":
            self._revoke(caller, self._of_id(verb), is_owner=True)
            return written(204)
        judge(given)
        key = (caller, verb, request.headers.get("Idempotency-Key", ""))
        act = getattr(self, f"_{verb}")
        if not key[2]:
            found = act(caller, given)
            return written(204 if found is None else 200, found)
        known = self._done.get(key)
        if known and known[0] != given:
            raise FakeProblem("idempotency_mismatch")
        found = self._repeated(known[1]) if known else act(caller, given)
        self._done[key] = (given, found)
        return written(201 if verb in ("create", "batch") else 200, found)

    def _repeated(self, found: dict[str, Any]) -> dict[str, Any]:
        """An earlier response, as it is now."""
        if "tokens" in found:
            return {"tokens": [self._repeated(one) for one in found["tokens"]]}
        if "token" in found:
            record = self._of_token(found["token"])
            return {**self._shown(record), "replayed": True}
        if "reservation" in found:
            self._held_by(found["reservation"])
            return found
        return {**found, "replayed": True}

    # The calls, by the last part of their path.

    def _create(self, caller: str, given: dict[str, Any]) -> dict[str, Any]:
        judge_new(given)
        now, token_id = self.clock.now(), secrets.token_hex(9)
        terms = {**given, "audience": [account_id(one) for one in given.get("audience", ())]}
        terms["subject"] = given.get("subject", account_id(caller))
        life = timedelta(seconds=given.get("expires_in", LIFE))
        token = f"ott_{token_id}{secrets.token_hex(19)}"
        record = Record(token, token_id, caller, terms, self._term, now, now + life)
        self._records.append(record)
        return self._shown(record)

    def _batch(self, caller: str, given: dict[str, Any]) -> dict[str, Any]:
        return {"tokens": [self._create(caller, given) for _ in range(given["count"])]}

    def _consume(self, caller: str, given: dict[str, Any]) -> dict[str, Any]:
        return self._consumed(caller, self._usable(caller, given))

    def _reserve(self, caller: str, given: dict[str, Any]) -> dict[str, Any]:
        record = self._usable(caller, given)
        record.reservation = f"otr_{record.id}{secrets.token_hex(26)}"
        lease = timedelta(seconds=given["lease_seconds"])
        record.lease_end = self.clock.now() + lease
        found = {"reservation": record.reservation, "lease_expires_at": record.lease_end}
        return {**found, **self._granted(record)}

    def _commit(self, caller: str, given: dict[str, Any]) -> dict[str, Any]:
        return self._consumed(caller, self._held_by(given["reservation"]))

    def _release(self, caller: str, given: dict[str, Any]) -> None:
        self._held_by(given["reservation"]).lease_end = self.clock.now()

    def _introspect(self, caller: str, given: dict[str, Any]) -> dict[str, Any]:
        record = next((one for one in self._records if one.token == given["token"]), None)
        issuers = [account_id(one) for one in given["issued_by"]]
        if not record or account_id(record.owner) not in issuers:
            return {"active": False}
        state = self._state(record)
        seen = record.owner == caller or admits(record, caller)
        if not seen or state not in ("active", "reserved"):
            return {"active": False}
        left = (record.expires_at - self.clock.now()).total_seconds()
        bound = {"active": True, "bound": "bind" in record.terms, "state": state}
        times = {"expires_in": left, "expires_at": record.expires_at}
        audience = record.terms["audience"] or None
        return {**self._granted(record), **bound, **times, "audience": audience}

    def _receipt(self, caller: str, token_id: str) -> dict[str, Any]:
        record = self._of_id(token_id)
        if record.owner != caller and not admits(record, caller):
            raise FakeProblem("token_unknown")
        state, replays = self._state(record), record.replays
        used = {"consumed_at": record.consumed_at, "consumed_by": record.consumed_by}
        return {
            **self._granted(record),
            **used,
            **{"state": state, "replays": replays, "expires_at": record.expires_at},
            "consumed_with": None,
        }

    def _revoke(self, caller: str, given: Any, *, is_owner: bool = False) -> None:
        record = given if isinstance(given, Record) else self._of_token(given["token"])
        if record.owner != caller and (is_owner or not admits(record, caller)):
            raise FakeProblem("token_unknown" if is_owner else "token_not_for_caller")
        if (state := self._state(record)) not in ("active", "revoked"):
            raise self._refusal(record, state)
        record.state = "revoked"

    # What they have in common.

    def _of_token(self, token: str) -> Record:
        for record in self._records:
            if record.token == token:
                return record
        is_whole = re.fullmatch("ott_[0-9A-Za-z]{56}", token)
        raise FakeProblem("token_unknown" if is_whole else "token_malformed")

    def _of_id(self, token_id: str) -> Record:
        for record in self._records:
            if record.id == token_id:
                return record
        raise FakeProblem("token_unknown")

    def _held_by(self, reservation: str) -> Record:
        """The record of a reservation that still holds."""
        for record in self._records:
            if record.reservation == reservation:
                if (state := self._state(record)) in ("lost", "consumed"):
                    raise self._refusal(record, state)
                if state == "reserved":
                    return record
        raise FakeProblem("lease_ended")

    def _state(self, record: Record) -> str:
        now = self.clock.now()
        if record.state != "active":
            return record.state
        if record.term != self._term:
            return "lost"
        if now < record.lease_end:
            return "reserved"
        return "active" if now < record.expires_at else "expired"

    def _refusal(self, record: Record, state: str) -> FakeProblem:
        if state == "consumed":
            return FakeProblem("token_already_used", consumed_at=text_of(record.consumed_at))
        left = (record.lease_end - self.clock.now()).total_seconds()
        return FakeProblem(f"token_{state}", left if state == "reserved" else 0)

    def _usable(self, caller: str, given: Mapping[str, Any]) -> Record:
        """The record of a token that may be consumed now, in the order of the service's checks."""
        record = self._of_token(given["token"])
        if not admits(record, caller):
            raise FakeProblem("token_not_for_caller")
        state, terms = self._state(record), record.terms
        record.replays += state == "consumed"
        if state not in ("active", "reserved"):
            raise self._refusal(record, state)
        issuers = [account_id(one) for one in given["issued_by"]]
        asked = "subject" in given or terms.get("require_subject")
        differs = {
            "issued_by": account_id(record.owner) not in issuers,
            "purpose": given["purpose"] != terms["purpose"],
            "subject": asked and given.get("subject") != terms["subject"],
            "bind": given.get("bind", "").lower() != terms.get("bind", "").lower(),
        }
        for name, is_other in differs.items():
            if is_other:
                raise FakeProblem("token_mismatch", field=name)
        if state == "reserved":
            raise self._refusal(record, state)
        return record

    def _consumed(self, caller: str, record: Record) -> dict[str, Any]:
        record.state, record.consumed_by = "consumed", account_id(caller)
        record.consumed_at = self.clock.now()
        used = {"consumed_at": record.consumed_at, "consumed_with": None, "replayed": False}
        return {**self._granted(record), **used}

    def _granted(self, record: Record) -> dict[str, Any]:
        names = ("subject", "purpose", "data")
        owner = {"issued_by": account_id(record.owner), "issued_with": None}
        found = {"id": record.id, "created_at": record.created_at, **owner}
        return {**found, **{name: record.terms.get(name) for name in names}}

    def _shown(self, record: Record) -> dict[str, Any]:
        state, now = self._state(record), self.clock.now()
        left = (record.expires_at - now).total_seconds()
        return {
            **self._granted(record),
            **{"token": record.token, "state": state, "replayed": False, "server_time": now},
            "expires_in": max(0, int(left)) if state in ("active", "reserved") else 0,
            "expires_at": record.expires_at,
            "audience": record.terms["audience"] or None,
        }


def account_id(account: str) -> str:
    """The id of an account: of an address always the same one."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, account)) if "@" in account else account


def admits(record: Record, caller: str) -> bool:
    return account_id(caller) in (record.terms["audience"] or [account_id(caller)])


def text_of(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def written(status: int, body: Any = None) -> httpx.Response:
    if body is None:
        return httpx.Response(status)
    text = json.dumps(body, default=text_of)
    return httpx.Response(status, text=text, headers={"Content-Type": "application/json"})
