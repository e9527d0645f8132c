"""A tally of honoured tokens: no token may be counted twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.stage.racing import Response
from tests.torture.caller import Caller
from tokenservice.onetime.errors import OneTimeError
from tokenservice.onetime.format import ID
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

HONOURED, NO_REPLY = "honoured", "no reply"
UNDECIDED = {NO_REPLY, "store_unavailable", "database_unavailable", "busy"}
#: Further outcomes of a token that was presented before, or whose Redis crashed.
REFUSALS = {
    "token_already_used",
    "token_expired",
    "token_lost",
    "token_unknown",
    "lease_ended",
}
PREFIX = len("ott_")

#: Validates a token, or commits a reservation; returns one of the words above, or a code.
Presenter = Callable[[str], str]


def by_engine(store: TokenStore, caller: Party) -> Presenter:
    """Present to the engine directly, as one more host of the service would."""

    def present(text: str) -> str:
        try:
            if text.startswith("otr_"):
                store.commit(text, caller)
            else:
                store.validate(Presented(text), caller)
            return HONOURED
        except OneTimeError as error:
            return error.code

    return present


def over_http(caller: Caller) -> Presenter:
    """Present to the service over HTTP."""

    def present(text: str) -> str:
        if text.startswith("otr_"):
            response = caller.post("/token/commit", {"reservation": text})
        else:
            response = caller.post("/token/validate", {"token": text})
        return HONOURED if response and response.status == 200 else code_of(response)

    return present


def code_of(response: Response | None) -> str:
    """The code of a refusal, or ``NO_REPLY``."""
    return str(response.body.get("code", response.status)) if response else NO_REPLY


class Tally:
    """Counts the outcomes of each token, from any number of threads."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self._honoured: Counter[str] = Counter()  # by id
        self._lock = threading.Lock()

    def note(self, outcome: str) -> None:
        """Count the outcome of another call."""
        with self._lock:
            self.outcomes[outcome] += 1

    def present(self, how: Presenter, text: str) -> str:
        outcome = how(text)
        with self._lock:
            self.outcomes[outcome] += 1
            self._honoured[id_of(text)] += outcome == HONOURED
        return outcome

    def settle(self, how: Presenter, text: str, seconds: float = 30) -> None:
        """Present a token until its outcome is decided."""
        deadline = time.monotonic() + seconds
        while self.present(how, text) in UNDECIDED:
            assert time.monotonic() < deadline, "the service did not recover"
            time.sleep(0.01)

    def was_honoured(self, text: str) -> bool:
        return self._honoured[id_of(text)] > 0

    @property
    def presented(self) -> int:
        """The number of tokens that were presented."""
        return len(self._honoured)

    @property
    def twice(self) -> int:
        """The number of tokens that were honoured more than once."""
        return sum(times > 1 for times in self._honoured.values())

    @property
    def strange(self) -> set[str]:
        """The outcomes that are not expected here."""
        return set(self.outcomes) - {HONOURED} - UNDECIDED - REFUSALS


def id_of(text: str) -> str:
    """The id in a token, or in the reservation of one."""
    return text[PREFIX : PREFIX + ID]
