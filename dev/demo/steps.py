"""The steps of the page: the calls of each, and what it says of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from dev.demo import handover
from dev.demo.calls import UNKNOWN, Call, Program
from dev.demo.keys import PURPOSE
from dev.demo.texts import SAYINGS

#: Longer than a program needs, because a person carries the token here.
LIFE_SECONDS = 120
RACERS = 20
#: The state of the token after a refusal.
ENDS = {
    "token_already_used": "used",
    "token_lost": "lost",
    "token_expired": "expired",
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a step.

    :ivar saying: the name of the sentence about it in ``texts``, and the ``facts`` in that
    :ivar goes_on: whether the next step of the same button makes sense
    :ivar state: the new state of the token, or "" as before
    :ivar lost: whether the response of the first call was thrown away
    """

    side: str
    calls: list[Call] = field(default_factory=list)
    saying: str
    facts: dict[str, Any] = field(default_factory=dict)
    goes_on: bool = False
    state: str = ""
    token: str = field(default="", repr=False)
    lost: bool = False


@dataclass(frozen=True)
class Demo:
    """The two programs of the page, and the account that both belong to."""

    backend: Program
    gateway: Program
    account: str

    def create(self) -> Outcome:
        """Create a token for the gateway."""
        body = {
            "purpose": PURPOSE,
            "audience": [self.account],
            "data": {"room": 7},
            "expires_in": LIFE_SECONDS,
        }
        made = self.backend.call(Call(path="/token/create", sent=body))
        if made.status != 201:
            return refused("backend", made)
        token = made.received["token"]
        return Outcome(
            side="backend", calls=[made], saying="created", goes_on=True, state="fresh", token=token
        )

    def consume(self, token: str) -> Outcome:
        made = self.gateway.call(self._consume(token))
        if made.status == 200:
            return Outcome(
                side="gateway", calls=[made], saying="consumed", goes_on=True, state="used"
            )
        return refused("gateway", made)

    def race(self, token: str) -> Outcome:
        """Consume one token by many calls at once, each with a key of its own."""
        calls = self.gateway.calls([self._consume(token) for _ in range(RACERS)])
        won = sum(call.status == 200 for call in calls)
        lost = sum(code_of(call) == "token_already_used" for call in calls)
        if won + lost < RACERS:
            odd = next(call for call in calls if code_of(call) not in ("200", "token_already_used"))
            return replace(refused("gateway", odd), calls=calls)
        facts = {"won": won, "lost": lost}
        return Outcome(side="gateway", calls=calls, saying="raced", facts=facts, state="used")

    def lose(self, token: str) -> Outcome:
        """Consume without reading the response, and repeat with the same key."""
        first = self._consume(token)
        self.gateway.lose(first)
        again = self.gateway.call(first)
        if again.status != 200:
            return replace(refused("gateway", again), calls=[first, again], lost=True)
        saying = "replayed" if again.received["replayed"] else "consumed"
        calls = [first, again]
        return Outcome(side="gateway", calls=calls, saying=saying, state="used", lost=True)

    def restart(self) -> Outcome:
        """Restart Redis. The token stays with the page, to be tried."""
        try:
            handover.restart_redis()
        except TimeoutError:
            return Outcome(side="gateway", saying="not_restarted")
        return Outcome(side="gateway", saying="restarted", goes_on=True)

    def _consume(self, token: str) -> Call:
        body = {"token": token, "purpose": PURPOSE, "issued_by": [self.account]}
        return Call(path="/token/consume", sent=body)


def code_of(call: Call) -> str:
    """The code of a problem, the status of any other response, or "" without one."""
    return str(call.received.get("code") or call.status or "")


def refused(side: str, call: Call) -> Outcome:
    """The outcome of a call that did not succeed."""
    code = code_of(call)
    saying = "down" if call.status in UNKNOWN else code if code in SAYINGS["en"] else "refused"
    facts = {"wait": call.wait, "title": call.received.get("title", code)}
    return Outcome(side=side, calls=[call], saying=saying, facts=facts, state=ENDS.get(code, ""))
