"""Passwords: what is accepted, how it is kept, and how many are hashed at once."""

from __future__ import annotations

import os
import threading
import unicodedata
from collections.abc import Iterable
from importlib import resources

import zxcvbn.matching
import zxcvbn.scoring
import zxcvbn.time_estimates
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

MIN_LENGTH, MAX_LENGTH = 8, 128
MIN_SCORE = 3
TOO_EASY = "Too easy to guess: use more words, and none of your name or e-mail address."
QUEUE_SECONDS = 2.0

SPANISH = (
    (resources.files("tokenservice") / "spanish_words.txt").read_text(encoding="utf-8").split()
)
DICTIONARIES = {
    **zxcvbn.matching.RANKED_DICTIONARIES,
    "spanish": zxcvbn.matching.build_ranked_dict(SPANISH),
}


class TooManyWaiting(Exception):
    """The cores are taken and the queue before them is too long."""


def normalized(password: str) -> str:
    """Give the form that is hashed: NFKC, so that every keyboard writes the same password."""
    return unicodedata.normalize("NFKC", password)


def is_guessable(password: str, context: Iterable[str]) -> bool:
    """Tell whether a guesser who knows ``context`` (names, addresses) finds it soon.

    zxcvbn's score below 3 means fewer than 10^8 guesses (ASVS 5.0 V6.2.4, V6.2.11). Only the
    first 72 characters are scored: more cannot make them weaker, and scoring slows with length.
    """
    known = [part.lower() for text in context for part in (text, *text.replace("@", " ").split())]
    # The package's own entry point keeps the context in a module global, which two threads
    # would share.
    dictionaries = {
        **DICTIONARIES,
        "user_inputs": zxcvbn.matching.build_ranked_dict(known),
    }
    scored = password[:72]
    found = zxcvbn.matching.omnimatch(scored, dictionaries)
    guesses = zxcvbn.scoring.most_guessable_match_sequence(scored, found)["guesses"]
    return bool(zxcvbn.time_estimates.guesses_to_score(guesses) < MIN_SCORE)


class Passwords:
    """Argon2id with OWASP's parameters (19 MiB, 2 passes, 1 lane), a bounded number at once.

    Hashing is what makes logins dear. It runs at most one per core over all ``workers`` of the
    machine, and whoever would wait more than two seconds is told so at once.
    """

    def __init__(self, memory_kib: int, workers: int) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=memory_kib, parallelism=1)
        cores = max(1, (os.cpu_count() or 1) // workers)
        self._cores = threading.BoundedSemaphore(cores)
        self._dummy = self._hasher.hash(os.urandom(16))

    def hash(self, password: str) -> str:
        """:raises TooManyWaiting: when no core came free in time"""
        with _Turn(self._cores):
            return self.hash_unqueued(password)

    def hash_unqueued(self, password: str) -> str:
        """Hash at once, for a command that has the machine's cores to itself."""
        return self._hasher.hash(password)

    def verify(self, stored: str | None, password: str) -> bool:
        """Compare, and take the same time where there is nothing to compare with.

        :param stored: the account's hash, or None where there is no such account
        :raises TooManyWaiting: when no core came free in time
        """
        with _Turn(self._cores):
            try:
                matches = self._hasher.verify(stored or self._dummy, password)
            except (VerifyMismatchError, VerificationError, InvalidHashError):
                return False
        return matches and stored is not None

    def needs_rehash(self, stored: str) -> bool:
        """Tell whether ``stored`` was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)


class _Turn:
    def __init__(self, cores: threading.BoundedSemaphore) -> None:
        self._cores = cores

    def __enter__(self) -> None:
        if not self._cores.acquire(timeout=QUEUE_SECONDS):
            raise TooManyWaiting

    def __exit__(self, *_: object) -> None:
        self._cores.release()
