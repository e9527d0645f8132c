"""Passwords: their rules, their hashes, and the queue for hashing."""

from __future__ import annotations

import math
import os
import re
import statistics
import sys
import threading
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib import resources
from typing import Any, TypeVar

import zxcvbn.matching
import zxcvbn.scoring
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from tokenservice.extensions import part
from tokenservice.telemetry import metrics

MIN_LENGTH, MAX_LENGTH = 8, 128
FEW_GUESSES = 10**8
TOO_EASY = "Too easy to guess: use more words, and none of your name or e-mail address."
#: The longest wait for a core.
QUEUE_SECONDS = 2.0
#: The number of hashes whose median time predicts the wait for the next one.
MEASURED = 15
NICE = 5
Result = TypeVar("Result")

SPANISH = resources.files("tokenservice.auth") / "words.txt"
zxcvbn.matching.add_frequency_lists({"spanish": SPANISH.read_text(encoding="utf-8").split()})

LOOK_ALIKES = zxcvbn.matching.L33T_TABLE
PLAIN = {sign: letter for letter, signs in LOOK_ALIKES.items() for sign in signs}
MOST_READINGS = 16


class TooManyWaiting(Exception):
    """A request waits for longer than ``QUEUE_SECONDS``, or would.

    :param seconds: the time until the next one would not
    """

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.retry_after = max(1, math.ceil(seconds))


def normalized(password: str) -> str:
    """The form that is hashed: NFKC, so that every keyboard writes the same password."""
    return unicodedata.normalize("NFKC", password)


def is_guessable(password: str, context: Iterable[str]) -> bool:
    """Tell whether 10^8 guesses find it, given ``context`` (names, addresses).

    10^8 is zxcvbn's score of 3 (ASVS 5.0 V6.2.4, V6.2.11). Only the first 72 characters are scored:
    more cannot make them weaker, and scoring slows with length. What is left without the words of
    the context is scored too: zxcvbn takes any three words in a row for 10^8 guesses.
    """
    scored = password[:72]
    # zxcvbn tries every reading of every look-alike, and a hostile text has thousands, which take
    # seconds. Beyond a few, one reading is enough, and stricter.
    readings = zxcvbn.matching.relevant_l33t_subtable(scored, LOOK_ALIKES)
    if math.prod(map(len, readings.values())) > MOST_READINGS:
        scored = zxcvbn.matching.translate(scored, PLAIN)
    known = {"token-service", "tokenservice"}
    for text in (normalized(text).lower() for text in context):
        parts = [part for part in re.split(r"[\W_]+", text) if part]
        local = re.split(r"[\W_]+", text.partition("@")[0])
        known |= {text, "".join(local), *parts}
    # Not zxcvbn.zxcvbn, which keeps the context in a module global that threads share.
    dictionaries = {
        **zxcvbn.matching.RANKED_DICTIONARIES,
        "user_inputs": zxcvbn.matching.build_ranked_dict(known),
    }
    texts = {scored, without(scored, known)}
    return any(guesses(text, dictionaries) < FEW_GUESSES for text in texts)


def guesses(text: str, dictionaries: dict[str, dict[str, int]]) -> float:
    if not text:  # zxcvbn cannot score it.
        return 1.0
    found = zxcvbn.matching.omnimatch(text, dictionaries)
    return float(zxcvbn.scoring.most_guessable_match_sequence(text, found)["guesses"])


def without(text: str, words: Iterable[str]) -> str:
    """What is left of ``text`` without ``words``.

    They count in any case, reversed, with look-alikes, and with or without accents. A single letter
    is no word.
    """
    own = [unaccented(word) for word in words if len(word) > 1]
    dictionary = {"own": zxcvbn.matching.build_ranked_dict(own)}
    matchers = (
        zxcvbn.matching.dictionary_match,
        zxcvbn.matching.reverse_dictionary_match,
        zxcvbn.matching.l33t_match,
    )
    taken = {
        place
        for matcher in matchers
        for match in matcher(unaccented(text), dictionary)
        for place in range(match["i"], match["j"] + 1)
    }
    return "".join(letter for place, letter in enumerate(text) if place not in taken)


def unaccented(text: str) -> str:
    """``text`` with as many characters, letters without their accents."""
    apart = [(letter, unicodedata.normalize("NFKD", letter)) for letter in text]
    return "".join(
        parts[0] if all(map(unicodedata.combining, parts[1:])) else letter
        for letter, parts in apart
    )


class Passwords:
    """Argon2id with OWASP's parameters (19 MiB, 2 passes, 1 lane), in a queue bounded by time.

    Hashing dominates the cost of a login. It runs at most once per core over all ``workers`` of the
    machine, on threads of low priority (Linux), so that token calls do not wait for logins. A
    request that would wait for more than two seconds is refused at once, and no other is.
    """

    def __init__(self, memory_kib: int, workers: int) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=memory_kib, parallelism=1)
        self._cores = max(1, (os.cpu_count() or 1) // workers)
        self._threads = ThreadPoolExecutor(self._cores, "argon2", initializer=give_way)
        self._lock = threading.Lock()
        self._ahead = 0  # waiting or at work
        self._measured: deque[float] = deque(maxlen=MEASURED)
        self._stand_ins: dict[str, str] = {}
        # Of the processor: all workers start at once, and each hash takes longer than usual.
        began = time.thread_time()
        self._remember(self._hasher.hash(os.urandom(16)))
        self._usual_seconds = time.thread_time() - began

    def hash(self, password: str) -> str:
        """:raises TooManyWaiting: no core came free in time"""
        return self._queued(self.hash_unqueued, password)

    def hash_unqueued(self, password: str) -> str:
        """Hash at once, for a command that may use all cores."""
        return self._hasher.hash(password)

    def verify(self, stored: str | None, password: str, waited: float = 0.0) -> bool:
        """Compare, in the same time for an account that does not exist.

        :param stored: the account's hash, or None
        :param waited: the seconds for which the request has waited already
        :raises TooManyWaiting: no core came free in time
        """
        return self._queued(self._verify, stored or "", password, waited=waited)

    def _verify(self, stored: str, password: str) -> bool:
        """Compare with one hash of each cost in use, so that every login takes the same time.

        Otherwise, after a change of the parameters, time would tell an account with a hash of the
        old cost from one that does not exist.
        """
        matches = False
        stand_ins = self._stand_ins
        try:
            with suppress(VerificationError):
                matches = bool(self._hasher.verify(stored, password))
            self._remember(stored)
        except InvalidHashError:
            stored = ""
        for cost, stand_in in stand_ins.items():
            if cost != cost_of(stored):
                with suppress(VerificationError):
                    self._hasher.verify(stand_in, password)
        return matches

    def _remember(self, hashed: str) -> None:
        """Keep a stand-in for hashes of this cost."""
        if cost_of(hashed) not in self._stand_ins:
            rest, _, digest = hashed.rpartition("$")
            # Replaced, not changed: another thread may be iterating.
            self._stand_ins = {**self._stand_ins, cost_of(hashed): f"{rest}${'A' * len(digest)}"}

    def needs_rehash(self, stored: str) -> bool:
        """Tell whether ``stored`` has other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _queued(self, work: Callable[..., Result], *args: str, waited: float = 0.0) -> Result:
        patience = QUEUE_SECONDS - waited
        with self._lock:
            if (wait := self._wait()) > patience:
                metrics.HASHES_REFUSED.inc()
                raise TooManyWaiting(wait - QUEUE_SECONDS)
            self._add(1)
        hashing = self._threads.submit(self._timed, work, *args)
        hashing.add_done_callback(self._leave)
        try:
            return hashing.result(patience)
        except TimeoutError:
            if hashing.cancel():
                metrics.HASHES_REFUSED.inc()
                raise TooManyWaiting(self._wait() - QUEUE_SECONDS) from None
            return hashing.result()  # It is at work.

    def _wait(self) -> float:
        """The seconds after which one more would get a core."""
        return max(0, self._ahead - self._cores + 1) * self._usual_seconds / self._cores

    def _timed(self, work: Callable[..., Result], *args: str) -> Result:
        began = time.monotonic()
        result = work(*args)
        with self._lock:
            self._measured.append(time.monotonic() - began)
            self._usual_seconds = statistics.median(self._measured)
        return result

    def _leave(self, _: Future[Any]) -> None:
        with self._lock:
            self._add(-1)

    def _add(self, hashes: int) -> None:
        self._ahead += hashes
        metrics.HASHES_WAITING.set(max(0, self._ahead - self._cores))


passwords = part(Passwords)


def cost_of(hashed: str) -> str:
    """The part before the salt: algorithm, memory, passes and lanes."""
    return hashed.rpartition("$")[0].rpartition("$")[0]


def give_way() -> None:
    """Lower the priority of this thread."""
    if sys.platform == "linux":
        this = threading.get_native_id()
        given = os.getpriority(os.PRIO_PROCESS, this)
        os.setpriority(os.PRIO_PROCESS, this, min(given + NICE, 19))
