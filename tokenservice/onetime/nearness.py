"""How near a server is, by the times that it took to answer lately."""

from __future__ import annotations

import threading
import time

#: Below this average one thread that waits for each answer is quicker than several in turn.
NEAR_SECONDS = 0.0005
#: An answer that takes so long begins the average anew, as a failure does.
SLOW_SECONDS = 0.05
#: The parts for which a quicker and a slower answer count. With an eighth for the slower ones, one
#: answer that waited for a processor sent all calls to the threads for a second, again and again:
#: on two busy cores more than half of them, at twice the CPU time.
QUICKER_PART, SLOWER_PART = 1 / 2, 1 / 32
#: The average after that. Nine quick answers in a row bring it below the bound again.
LOST_SECONDS = 0.1
#: The age at which the last answer proves nothing any more.
RECENT_SECONDS = 5.0
#: Threads that wait for each other take their answers late, so that a near server looks like one
#: that is some milliseconds away. Up to this average it is tried again and again whether one thread
#: gets quick answers: for so long, and not before the rest.
CROWDED_SECONDS = 0.003
TRIAL_SECONDS, REST_SECONDS = 0.02, 0.5


class Nearness:
    """A moving average of the seconds of an answer.

    Of two threads that waited, the one with the quicker answer knows better, and counts for more.
    """

    def __init__(self) -> None:
        self._seconds = LOST_SECONDS
        self._at = self._trial_at = self._trial_until = 0.0
        self._lock = threading.Lock()

    def note(self, seconds: float) -> None:
        """Take an answer into account."""
        if seconds >= SLOW_SECONDS:
            self.lose()
            return
        with self._lock:
            self._at = now = time.monotonic()
            change = seconds - self._seconds
            self._seconds += change * (QUICKER_PART if change < 0 else SLOWER_PART)
            if NEAR_SECONDS <= self._seconds < CROWDED_SECONDS and now >= self._trial_at:
                self._trial_at, self._trial_until = now + REST_SECONDS, now + TRIAL_SECONDS

    def lose(self) -> None:
        """Take a failure into account."""
        with self._lock:
            self._seconds, self._trial_until = LOST_SECONDS, 0.0

    @property
    def is_near(self) -> bool:
        """Whether the next answer is sure to be quick, or that is being tried."""
        now = time.monotonic()
        is_quick = self._seconds < NEAR_SECONDS or now < self._trial_until
        return is_quick and now - self._at < RECENT_SECONDS
