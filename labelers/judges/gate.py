"""Holds requests back: so many a minute, and none while the server says that it wants to be left alone."""

from __future__ import annotations

import threading
import time
from typing import Any

LONGEST_PAUSE = 120.0
"""Seconds; a server that asks for a longer pause is given up for now."""


class Gate:
    """Lets requests of all threads through in turn.

    Args:
        per_minute: requests a minute, > 0; None: as many as come.
    """

    def __init__(self, per_minute: float | None = None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when the caller may send one request."""
        while True:
            with self._lock:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + self._interval
                    return
                pause = self._next - now
            time.sleep(pause)

    def pause(self, seconds: float) -> None:
        """Let nobody through for some seconds."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def before(self, _: Any) -> None:
        """Hold a request back: a hook of the HTTP client, called for every try."""
        self.wait()

    def after(self, response: Any) -> None:
        """Heed a ``Retry-After`` of seconds: a hook of the HTTP client.

        The client itself waits with the one request that was refused; the others have to wait as well.
        """
        if response.status_code in (429, 503):
            try:
                seconds = float(response.headers.get("retry-after", ""))
            except ValueError:  # none, or a date
                return
            if 0.0 < seconds <= LONGEST_PAUSE:
                self.pause(seconds)
