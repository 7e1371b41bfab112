"""A database that accepts connections and says nothing: whoever asks is told at once, instead of waiting in a thread.

Rule: the first calls wait as long as the engine allows. From then on one call at a time finds out whether the database
is back, one every :data:`TRIAL_SECONDS`, and the others do not wait for it.
"""

from __future__ import annotations

import threading
import time

TRIAL_SECONDS = 1.0


class Silence:
    """Whether a database says nothing. Safe to be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_trial: float | None = None

    def begin(self) -> None:
        """It did not answer in time."""
        with self._lock:
            self._next_trial = time.monotonic() + TRIAL_SECONDS

    def end(self) -> None:
        """It has answered."""
        self._next_trial = None

    def admits(self) -> bool:
        """Whether it may be asked now."""
        if self._next_trial is None:
            return True
        with self._lock:
            now = time.monotonic()
            if self._next_trial is not None and now < self._next_trial:
                return False
            self._next_trial = now + TRIAL_SECONDS
            return True
