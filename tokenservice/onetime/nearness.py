"""How near a server is, by the times that it took to answer lately."""

from __future__ import annotations

import threading
import time

#: Below this average one thread that waits for each answer is quicker than several in turn.
NEAR_SECONDS = 0.0005
#: An answer that takes so long begins the average anew, as a failure does.
SLOW_SECONDS = 0.01
#: The average after that. Eight quick answers in a row bring it below the bound again.
LOST_SECONDS = 0.1
#: The age at which the last answer proves nothing any more.
RECENT_SECONDS = 5.0


class Nearness:
    """A moving average of the seconds of an answer.

    Where threads wait for each other, many answers seem slow though the server is near. So a
    quicker answer counts for a half, and a slower one for an eighth.
    """

    def __init__(self) -> None:
        self._seconds = LOST_SECONDS
        self._at = 0.0
        self._lock = threading.Lock()

    def note(self, seconds: float) -> None:
        """Take an answer into account."""
        with self._lock:
            self._at = time.monotonic()
            if seconds >= SLOW_SECONDS:
                self._seconds = LOST_SECONDS
            else:
                change = seconds - self._seconds
                self._seconds += change / (2 if change < 0 else 8)

    def lose(self) -> None:
        """Take a failure into account."""
        with self._lock:
            self._seconds = LOST_SECONDS

    @property
    def is_near(self) -> bool:
        """Whether the next answer is sure to be quick."""
        return self._seconds < NEAR_SECONDS and time.monotonic() - self._at < RECENT_SECONDS
