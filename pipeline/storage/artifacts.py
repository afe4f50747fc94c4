"""The run folder: a stage writes its artefact atomically and is skipped when that of the same inputs is there.

A stage has a name, inputs (`StageInputs`, among them the fingerprints of the stages before it), outputs (paths below
the run folder) and a function that builds them in a scratch folder. The outputs are moved into place one by one and the
manifest ``stages/<name>.json``, with the fingerprint of the inputs and a checksum of every output, is written
last. So a run killed at any moment leaves either a complete stage or one that will be built again: nothing half-written
is ever read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from truthful_rlhf.pipeline.storage import processes
from truthful_rlhf.pipeline.storage.inputs import StageInputs, with_own_code

STAGES = "stages"
_UNFINISHED = ".unfinished"
_SCRATCH = ".scratch-"
"""How the names of unfinished files and folders begin."""


class RunFolderError(RuntimeError):
    """The run folder cannot be used: not writable, locked by another run, or full."""


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Return a hash of JSON-able inputs that does not depend on the order of keys."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stage_key(name: str, inputs: StageInputs) -> str:
    return fingerprint({"stage": name, **with_own_code(inputs)})


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that disk or quota are used up.

    Libraries that write through Rust (safetensors) give the system's message without its number.
    """
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or f"os error {errno.ENOSPC}" in str(error):
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and is_disk_full(cause)


def new_file_beside(path: Path) -> Path:
    """Make an empty file in the folder of ``path``, under a name of its own and with the mode that the umask leaves.

    ``tempfile`` would make it readable for its owner alone.
    """
    scratch = path.with_name(f"{_SCRATCH}{path.name}-{secrets.token_hex(8)}")
    scratch.touch(exist_ok=False)
    return scratch


def write_text_atomically(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 so that a reader sees either the old file or the whole new one."""
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` so that a reader sees either the old file or the whole new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = new_file_beside(path)
        try:
            with open(scratch, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(scratch)
            raise
    except OSError as error:
        error.filename = str(path)  # a full disk names no file, other errors the scratch file
        raise


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, with a final newline; NaN is refused because JSON has none."""
    write_text_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's relative names and files in sorted order."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(str(file.relative_to(path)).encode())
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


class RunFolder:
    """A folder of artefacts, used by one process at a time."""

    def __init__(self, root: Path | str, on_stage: Callable[[str, bool], None] = lambda name, skipped: None) -> None:
        """Open (and make) the folder ``root``; ``on_stage(name, skipped)`` is told of every stage before it starts."""
        self.root = Path(root)
        self.on_stage = on_stage

    @contextlib.contextmanager
    def locked(self) -> Iterator[RunFolder]:
        """Hold the folder for this run: a second one into it is refused instead of mixing the two."""
        if not processes.is_first():  # its first process holds the lock
            processes.wait()
            yield self
            return
        lock = FileLock(self.root / ".lock", timeout=0)  # the system's own lock: a process that dies lets go of it
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            held = lock.acquire()
        except Timeout as error:
            raise RunFolderError(
                f"another run is writing to {self.root}; wait for it or choose another --out"
            ) from error
        except OSError as error:
            raise RunFolderError(f"cannot write to {self.root}: {error.strerror}; choose another --out") from error
        with held:
            self._remove_leftovers()
            processes.wait()
            with self._explaining_the_disk():
                yield self

    def _remove_leftovers(self) -> None:
        """Remove what a killed run had not finished: a stage's scratch folder, or a file before it got its name."""
        places = (self.root.glob, (self.root / "figures").glob, (self.root / STAGES).rglob)
        for leftover in [path for find in places for path in find(f"{_SCRATCH}*")]:
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)

    def is_done(self, name: str, key: str, outputs: Sequence[str]) -> bool:
        """Whether the stage's manifest is there, was made from the same inputs, and every output is intact.

        Args:
            name: of the stage.
            key: fingerprint of its inputs.
            outputs: paths below the run folder.
        """
        try:
            manifest = json.loads((self.root / STAGES / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return False
        if not isinstance(manifest, dict) or not isinstance(manifest.get("outputs"), dict):
            return False
        if manifest.get("fingerprint") != key or sorted(manifest["outputs"]) != sorted(outputs):
            return False
        return all(
            (self.root / output).exists() and checksum(self.root / output) == expected
            for output, expected in manifest["outputs"].items()
        )

    def stage(
        self,
        name: str,
        inputs: StageInputs,
        outputs: Sequence[str],
        build: Callable[[Path], None],
        together: bool = False,
    ) -> str:
        """Build the outputs of a stage unless they are there already.

        Args:
            name: unique in the run; may contain slashes.
            inputs: all that the result depends on, with the fingerprints of earlier stages.
            outputs: files or folders that ``build`` makes, relative to the run folder.
            build: gets a scratch folder and writes every output below it under the same relative path.
            together: where a launcher started several processes, all of them call ``build`` with the same scratch
                folder (training) instead of the first alone.

        Returns:
            The fingerprint of the inputs, to be put into the inputs of later stages.
        """
        for path in (f"{STAGES}/{name}.json", *outputs):
            if not (self.root / path).resolve().is_relative_to(self.root.resolve()):
                raise RunFolderError(f"stage {name!r} would write {path!r}, which is outside {self.root}")
        key = _stage_key(name, inputs)
        done = processes.from_first(processes.is_first() and self.is_done(name, key, outputs))
        if processes.is_first():
            self.on_stage(name, done)
            if not done:
                self._build(name, key, with_own_code(inputs), outputs, build, together)
            self._remove_checkpoints(name)
        elif not done and together:
            build(Path(processes.from_first("")))
        processes.wait()
        return key

    def checkpoints(self, name: str, inputs: StageInputs) -> Path:
        """Return the folder for what a long ``build`` can go on from, for these inputs alone; it is kept until then.

        Args:
            name: of the stage; its folder is removed when the stage is complete, or begun with other inputs.
            inputs: of the stage.
        """
        return self.root / STAGES / f"{name}{_UNFINISHED}" / _stage_key(name, inputs)

    def _remove_checkpoints(self, name: str, but: str | None = None) -> None:
        """Remove a stage's checkpoints, all or all but those of one fingerprint."""
        folder = self.root / STAGES / f"{name}{_UNFINISHED}"
        for path in [folder] if but is None else [path for path in folder.glob("*") if path.name != but]:
            shutil.rmtree(path, ignore_errors=True)

    def _build(
        self,
        name: str,
        key: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str],
        build: Callable[[Path], None],
        together: bool,
    ) -> None:
        manifest = self.root / STAGES / f"{name}.json"
        manifest.unlink(missing_ok=True)
        self._remove_checkpoints(name, but=key)
        with self._explaining_the_disk(f"stage {name!r}"):
            scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self.root))
            try:
                if together:
                    processes.from_first(str(scratch))
                build(scratch)
                for output in outputs:
                    self._move_into_place(scratch / output, self.root / output)
                sums = {output: checksum(self.root / output) for output in outputs}
                write_json(
                    manifest,
                    {"fingerprint": key, "inputs": json.loads(json.dumps(inputs, default=str)), "outputs": sums},
                )
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    @contextlib.contextmanager
    def _explaining_the_disk(self, what: str | None = None) -> Iterator[None]:
        """Explain a disk that is full, or that may not be written, while ``what`` (or the error's file) was written."""
        try:
            yield
        except RunFolderError:
            raise
        except Exception as error:
            named = Path(str(getattr(error, "filename", None) or self.root))
            inside = named.is_relative_to(self.root)
            file = named.relative_to(self.root) if inside and named != self.root else "a file"
            if is_disk_full(error):
                raise RunFolderError(
                    f"no space left on the disk while writing {what or file} to {self.root}; free some and start again:"
                    " finished stages are kept"
                ) from error
            if isinstance(error, OSError) and inside and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise RunFolderError(
                    f"cannot write {what or file} to {self.root}: {error.strerror}; choose another --out"
                ) from error
            raise

    @staticmethod
    def _move_into_place(source: Path, target: Path) -> None:
        if not source.exists():
            raise FileNotFoundError(f"the stage did not write {source.name!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(source, target)
