"""Replies of judges on disk, so that a killed run pays for nothing twice."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Return the folder of what is kept between runs: ``$TRUTHFUL_RLHF_CACHE`` or ``~/.cache/truthful-rlhf``."""
    return Path(os.environ.get("TRUTHFUL_RLHF_CACHE", Path.home() / ".cache" / "truthful-rlhf"))


def default_cache_file() -> Path:
    """Return ``judge-replies.sqlite`` in the cache folder."""
    return cache_folder() / "judge-replies.sqlite"


def request_key(request: Mapping[str, Any]) -> str:
    """Return the name of a request: a hash of everything that decides the reply. The API key is not part of it."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


class ReplyCache:
    """A map from requests to replies in one SQLite file; every reply is committed when it arrives.

    Safe for threads of one process, and for several processes.

    Args:
        path: the file; its folder is made if it is missing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, timeout=60.0, check_same_thread=False, isolation_level=None)
        self._database.execute("CREATE TABLE IF NOT EXISTS replies (request TEXT PRIMARY KEY, reply TEXT NOT NULL)")

    def get(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the reply to an equal request, or None."""
        with self._lock:
            row = self._database.execute(
                "SELECT reply FROM replies WHERE request = ?", (request_key(request),)
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, request: Mapping[str, Any], reply: Mapping[str, Any]) -> None:
        """Keep a reply; the last one wins."""
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO replies VALUES (?, ?)", (request_key(request), json.dumps(reply))
            )

    def put_all(self, replies: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> None:
        """Keep several requests' replies at once."""
        rows = [(request_key(request), json.dumps(reply)) for request, reply in replies]
        with self._lock:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?)", rows)
            self._database.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()
