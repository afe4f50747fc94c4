"""Open a stranger's file: find out what kind it is, unpack it, and turn it into UTF-8, a bounded amount at a time.

gzip and Zstandard files are unpacked while they are read, up to ``MAX_UNPACKED_BYTES``: a small file can unpack to
more than a disk holds, but here it can cost nothing except time. UTF-16 is recognised by its byte order mark.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.files.records import MAX_RECORD_BYTES, Progress

MAX_UNPACKED_BYTES = 8 * 2**30
_PEEK_BYTES = 4096
_CHUNK_BYTES = 2**20
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_PACKED_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd")
_REFUSED = {
    b"PK\x03\x04": "a zip archive (or a spreadsheet)",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
}
_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods")
_BOMS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be", codecs.BOM_UTF8: "utf-8"}
_TABLES = (".csv", ".tsv")
_JSON = (".jsonl", ".ndjson", ".json")


class Opened(NamedTuple):
    """A file as a stream of UTF-8 bytes without a byte order mark."""

    path: Path
    kind: str
    """``csv``, ``json`` or ``parquet``."""
    stream: io.BufferedReader
    plain: bool
    """Whether the file is on disk as it is read: not packed, and UTF-8."""


def open_file(path: Path, tick: Progress) -> Opened:
    """Open an annotation file.

    Raises:
        AnnotationError: there is no such file, it is empty, or it is of a kind that is not read.
    """
    head = _head(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-1] if suffixes else ""
    for magic, kind in _REFUSED.items():
        if head.startswith(magic):
            raise AnnotationError(_refused(path, suffix, kind))
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    if packed is not None:
        suffix = suffixes[-2] if suffix in _PACKED_SUFFIXES and len(suffixes) > 1 else suffix
    elif head.startswith(b"PAR1"):
        return Opened(path, "parquet", io.BufferedReader(path.open("rb", buffering=0)), True)
    kind = _kind(path, suffix)
    stream: Any = _Counted(path.open("rb", buffering=0), tick)
    if packed is not None:
        stream = _Unpacked(path, stream, packed)
    reader = io.BufferedReader(stream, _CHUNK_BYTES)
    start = reader.peek(4)
    if start.startswith(b"PAR1"):
        raise AnnotationError(f"{path}: a packed Parquet file; Parquet is packed in itself: give it unpacked")
    encoding = next((name for bom, name in _BOMS.items() if start.startswith(bom)), None)
    if encoding is not None:
        reader.read(3 if encoding == "utf-8" else 2)
    if encoding in ("utf-16-le", "utf-16-be"):
        reader = io.BufferedReader(_Recoded(path, reader, encoding), _CHUNK_BYTES)
    if kind == "text":
        kind = "json" if reader.peek(_PEEK_BYTES).lstrip()[:1] in (b"{", b"[") else "csv"
    return Opened(path, kind, reader, packed is None and encoding in (None, "utf-8"))


def _head(path: Path) -> bytes:
    try:
        if not path.exists():
            siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            raise AnnotationError(f"{path}: no such file{nearest(path.name, siblings)}")
        if not path.is_file():
            raise AnnotationError(f"{path}: not a regular file")
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise AnnotationError(f"{str(path)[:200]}: cannot be opened ({error.strerror})") from None
    if not head:
        raise AnnotationError(f"{path}: the file is empty")
    return head


def _refused(path: Path, suffix: str, kind: str) -> str:
    if suffix in _WORKBOOKS:
        return (
            f"{path}: this is {kind}: Excel workbooks are not read. In Excel, save the sheet as 'CSV UTF-8' "
            "(semicolons and decimal commas are understood) and give that file"
        )
    return (
        f"{path}: this is {kind}; of compressed files only .gz and .zst are opened. Unpack it yourself and give the "
        "JSONL, CSV or Parquet file inside"
    )


def _kind(path: Path, suffix: str) -> str:
    if suffix in _TABLES:
        return "csv"
    if suffix in _JSON:
        return "json"
    if suffix in (".txt", *_PACKED_SUFFIXES):
        return "text"
    valid = ".jsonl, .json, .csv, .tsv, .txt, .parquet, and .gz or .zst of these"
    raise AnnotationError(f"{path}: unknown kind of file {suffix!r}; valid: {valid}")


class _Raw(io.RawIOBase):
    """A raw stream over ``_take``, which returns some bytes, or none at the end."""

    def __init__(self) -> None:
        self._rest = b""

    def _take(self) -> bytes:
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            self._rest = self._take()
            if not self._rest:
                return 0
        n = min(len(buffer), len(self._rest))
        buffer[:n], self._rest = self._rest[:n], self._rest[n:]
        return n


class _Counted(_Raw):
    """A file that reports how much of it was read."""

    def __init__(self, file: IO[bytes], tick: Progress) -> None:
        super().__init__()
        self._file, self._tick = file, tick

    def _take(self) -> bytes:
        chunk = self._file.read(_CHUNK_BYTES)
        self._tick(len(chunk))
        return chunk

    def close(self) -> None:
        self._file.close()
        super().close()


class _Unpacked(_Raw):
    """A gzip or Zstandard file, unpacked up to a limit."""

    def __init__(self, path: Path, file: Any, codec: str) -> None:
        super().__init__()
        import pyarrow as pa

        self._path, self._total = path, 0
        self._file = file
        self._stream = pa.CompressedInputStream(pa.PythonFile(io.BufferedReader(file), mode="r"), codec)

    def _take(self) -> bytes:
        try:
            chunk = bytes(self._stream.read(_CHUNK_BYTES))
        except (OSError, EOFError) as error:
            raise AnnotationError(f"{self._path}: cannot be unpacked ({error})") from None
        self._total += len(chunk)
        if self._total > MAX_UNPACKED_BYTES:
            raise AnnotationError(
                f"{self._path}: unpacks to more than {MAX_UNPACKED_BYTES / 2**30:g} GB. Unpack it yourself and give "
                "the file inside"
            )
        return chunk

    def close(self) -> None:
        self._file.close()
        super().close()


class _Recoded(_Raw):
    """A UTF-16 file as UTF-8."""

    def __init__(self, path: Path, file: io.BufferedReader, encoding: str) -> None:
        super().__init__()
        self._path, self._file = path, file
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def _take(self) -> bytes:
        while chunk := self._file.read(_CHUNK_BYTES):
            if text := self._decode(chunk, final=False):
                return text.encode("utf-8", "surrogatepass")
        return self._decode(b"", final=True).encode("utf-8", "surrogatepass")

    def _decode(self, chunk: bytes, final: bool) -> str:
        try:
            return str(self._decoder.decode(chunk, final))
        except UnicodeDecodeError:
            raise AnnotationError(f"{self._path}: begins like UTF-16 and is not") from None

    def close(self) -> None:
        self._file.close()
        super().close()


def lines(opened: Opened) -> Iterator[tuple[int, str]]:
    """Yield numbered lines, decoded; a line beyond the limit is never read whole."""
    number = 0
    while raw := opened.stream.readline(MAX_RECORD_BYTES + 1):
        number += 1
        if len(raw) > MAX_RECORD_BYTES:
            raise AnnotationError(f"{opened.path}: line {number} is longer than {MAX_RECORD_BYTES} bytes")
        try:
            yield number, raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise AnnotationError(
                f"{opened.path}: line {number}: not UTF-8 at byte {error.start} of the line "
                f"(0x{raw[error.start]:02x}); convert it first, e.g. iconv -f latin1 -t utf-8"
            ) from None
