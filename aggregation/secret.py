"""A secret that only the owner of a campaign has, and the numbers that it draws.

HMAC-SHA256 (RFC 2104) of a name under the secret. Without the secret nobody can tell the numbers from fair draws. With
it they can be drawn again, on any machine. In a live campaign the secret is random (``secrets.token_bytes(32)``) and
stays with the owner. A seed such as 0 is no secret: labelers can try it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray

_BLOCK = 64  # bytes in a block of SHA-256
_LOST = "the secret is not saved with a rule: hand it over again with set_secret(secret)"


class Secret:
    """Draws numbers by name; never shows or saves the secret itself.

    A deep copy keeps the secret. A pickle does not: a rule read from disk wants it again.

    Examples:
        >>> secret = Secret(b"only the owner has this")
        >>> secret
        Secret(...)
        >>> (secret.uniforms("label", ["pair-1", "pair-2"]) == secret.uniforms("label", ["pair-1", "pair-2"])).all()
        np.True_
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes) -> None:
        """Take the secret, at least one byte (32 random ones are right), or raise ``ValueError``."""
        if not isinstance(secret, bytes | bytearray) or not secret:
            # the value is not shown: messages may be logged
            raise ValueError(f"a secret must be bytes, not empty, e.g. secrets.token_bytes(32); got {type(secret)}")
        key = (hashlib.sha256(secret).digest() if len(secret) > _BLOCK else bytes(secret)).ljust(_BLOCK, b"\0")
        self._inner = bytes(byte ^ 0x36 for byte in key)
        self._outer = bytes(byte ^ 0x5C for byte in key)

    def digests(self, purpose: str, keys: Iterable[object]) -> list[bytes]:
        """Return the HMAC-SHA256 of ``purpose``, a zero byte and the key, for every key, 32 bytes each.

        Args:
            purpose: what is drawn; numbers for different purposes have nothing to do with each other.
            keys: strings or whole numbers; a whole number is the string of its digits, so that ids mean the same
                in every file format.

        Raises:
            TypeError: another kind of key.
        """
        if not self._inner:
            raise ValueError(_LOST)
        sha256, inner, outer = hashlib.sha256, self._inner + purpose.encode() + b"\0", self._outer
        # written out, because the module hmac takes twice as long per key; the tests hold it to that module
        return [sha256(outer + sha256(inner + _encoded(key)).digest()).digest() for key in keys]

    def uniforms(self, purpose: str, keys: Iterable[object]) -> FloatArray:
        """Return one number per key, shape ``(T,)``, uniform on (k + 1/2) / 2^52 for k = 0 ... 2^52 - 1.

        So u and 1 - u are equally likely, both exact in float64, and never 0 or 1. Arguments as in ``digests``.
        """
        words = np.frombuffer(b"".join(self.digests(purpose, keys)), dtype=">u8")[::4]
        return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def __repr__(self) -> str:
        return "Secret(...)"

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return _lost, ()


def _lost() -> Secret:
    """Return what a saved secret is read back as: one that draws nothing."""
    secret = Secret.__new__(Secret)
    secret._inner = secret._outer = b""
    return secret


def input_secret(*parts: ArrayLike) -> bytes:
    """Return the SHA-256 of a whole input: the secret of a recorded campaign, whose reports are all in.

    No labeler could know it beforehand, and the same input gives the same labels on any machine. Not for a live
    campaign: the labeler that reports last could try reports until it likes the draws.

    Args:
        parts: arrays of numbers (NaN is one value, and -0 is 0) and lists of ids, as strings; their order counts.

    Examples:
        >>> reports, outcomes = [[0.9, 0.2]], [float("nan")]
        >>> input_secret(reports, outcomes, ["pair-1"]) == input_secret(reports, outcomes, ["pair-1"])
        True
        >>> input_secret(reports, outcomes, ["pair-1"]) == input_secret(reports, outcomes, ["pair-2"])
        False
    """
    whole = hashlib.sha256()
    for part in parts:
        listed = np.asarray(part)
        if listed.dtype.kind in "fiub":
            numbers = np.where(np.isnan(listed.astype("<f8")), np.nan, listed.astype("<f8") + 0.0)
            whole.update(f"numbers {listed.shape}".encode() + numbers.astype("<f8").tobytes())
        else:
            whole.update(f"keys {listed.shape}".encode())
            for key in listed.reshape(-1).tolist():
                encoded = _encoded(key)
                whole.update(len(encoded).to_bytes(8, "big") + encoded)
    return whole.digest()


def _encoded(key: object) -> bytes:
    if isinstance(key, str):
        return key.encode("utf-8", "surrogatepass")
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return b"%d" % int(key)
    raise TypeError(f"a key must be a string or a whole number (the pair's id), got {key!r}")
