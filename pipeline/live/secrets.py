"""What only the owner of a campaign has: audits, sides, labels and links are drawn from one random key."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from truthful_rlhf.pipeline.live.settings import CampaignError

KEY = "secret.key"
_BYTES = 32


class Secrets:
    """HMAC-SHA256 (RFC 2104) of names under the campaign's key; the first word of a name says what it is for."""

    def __init__(self, key: bytes) -> None:
        """Take the key, 32 bytes."""
        self._key = key

    @classmethod
    def create(cls, folder: Path) -> Secrets:
        """Draw a key and write it, readable by its owner alone; one that is there is never overwritten."""
        key = secrets.token_bytes(_BYTES)
        handle = os.open(folder / KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        return cls(key)

    @classmethod
    def read(cls, folder: Path) -> Secrets:
        """Read the key, or raise `CampaignError`."""
        path = folder / KEY
        try:
            key = path.read_bytes()
        except OSError as error:
            raise CampaignError(
                f"{path}: {error.strerror}; without it nobody can tell which pairs are audited: restore it from a copy"
            ) from None
        if len(key) != _BYTES:
            raise CampaignError(f"{path} has {len(key)} bytes, not {_BYTES}: restore it from a copy")
        return cls(key)

    def digest(self, purpose: str, *names: str) -> bytes:
        """Return 32 bytes that nobody without the key can tell from random ones.

        Args:
            purpose: what they are for.
            names: what is drawn; no two lists of names are alike.
        """
        message = b"".join(len(word).to_bytes(8, "big") + word for word in (n.encode() for n in (purpose, *names)))
        return hmac.digest(self._key, message, hashlib.sha256)

    def is_audited(self, pair_id: str, rate: float) -> bool:
        """Whether an expert is asked about a pair: drawn by its id alone, so that no report can change it.

        Args:
            pair_id: of the pair.
            rate: the chance, in [0, 1].
        """
        return int.from_bytes(self.digest("audit", pair_id)[:8], "big") < rate * 2**64

    def a_is_left(self, person: str, pair_id: str) -> bool:
        """Whether somebody sees response A on the left: a fair coin per person and pair."""
        return bool(self.digest("side", person, pair_id)[0] & 1)

    def label_secret(self) -> bytes:
        """Return the secret of rules that draw their labels."""
        return self.digest("labels")

    def token_hash(self, token: str) -> str:
        """Return what the store keeps of a link's token."""
        return self.digest("token", token).hex()

    def chained(self, previous: str, text: str) -> str:
        """Return the hash of an event after the one before it: without the key the chain cannot be forged."""
        return self.digest("event", previous, text).hex()


def new_token() -> str:
    """Return a fresh token of 128 random bits."""
    return secrets.token_urlsafe(16)
