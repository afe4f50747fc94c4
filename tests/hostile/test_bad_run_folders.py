"""Run folders that somebody has tampered with: what is not as it was written is built again, inside the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hostile.tables import encoded, good_rows, parquet
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, RunFolderError, write_text_atomically
from truthful_rlhf.pipeline.storage.inputs import StageInputs
from truthful_rlhf.pipeline.storage.tables import ArtefactError, read_table

# What a manifest may have become; none of them counts as done
MANIFESTS: list[bytes] = [
    *(b"", b"null", b"[]", b"5", b'"done"', b"{}", b"{", b"\xff\xfe", b"\x00" * 20, b"[" * 50_000, b"9" * 5000),
    *(b'{"fingerprint": 5}', b'{"outputs": []}', b'{"outputs": null}', b'{"outputs": {"../../x": "y"}}'),
    *(b'{"fingerprint": "FINGERPRINT"}', b'{"fingerprint": "FINGERPRINT", "outputs": ["table.txt"]}'),
    *(
        b'{"fingerprint": "FINGERPRINT", "outputs": {"table.txt": %s}}' % value
        for value in (b"null", b"5", b'"0"', b"{}", b"[]")
    ),
    b'{"fingerprint": "FINGERPRINT", "outputs": {"table.txt": "CHECKSUM", "../../x": "y"}}',
]


def build(folder: RunFolder) -> list[Path]:
    """Run one stage and return the scratch folders in which it was built: none if it was skipped."""
    built: list[Path] = []

    def write(scratch: Path) -> None:
        built.append(scratch)
        write_text_atomically(scratch / "table.txt", "content")

    folder.stage("table", StageInputs(), ["table.txt"], write)
    return built


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_manifest_that_is_none_is_not_believed(tmp_path: Path, manifest: bytes) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        assert len(build(folder)) == 1
        assert build(folder) == [], "the control: an untouched stage is skipped"
        path = folder.root / "stages" / "table.json"
        was = json.loads(path.read_text())
        manifest = manifest.replace(b"FINGERPRINT", was["fingerprint"].encode())
        path.write_bytes(manifest.replace(b"CHECKSUM", was["outputs"]["table.txt"].encode()))
        assert len(build(folder)) == 1
        assert json.loads(path.read_text()) == was
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("content", [b"", b"conten", b"content ", b"\x00"])
def test_an_artefact_that_was_changed_is_built_again(tmp_path: Path, content: bytes) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        build(folder)
        (folder.root / "table.txt").write_bytes(content)
        assert len(build(folder)) == 1
        assert (folder.root / "table.txt").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("name", "output"),
    [("table", "../x"), ("table", "a/../../x"), ("table", "/tmp/x"), ("table", "link/x"), ("../../x", "table.txt")],
)
def test_no_stage_leaves_the_folder(tmp_path: Path, name: str, output: str) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        (folder.root / "link").symlink_to(tmp_path)
        with pytest.raises(RunFolderError, match="which is outside"):
            folder.stage(name, StageInputs(), [output], lambda scratch: None)


# (content of a table that a stage reads, text of the message)
TABLES: list[tuple[bytes | None, str]] = [
    (None, "does not exist"),
    (b"", "is not a readable Parquet file"),
    (b"PAR1", "is not a readable Parquet file"),
    (encoded(good_rows(), "parquet")[:200], "is not a readable Parquet file"),
    (encoded(good_rows(), "csv"), "is not a readable Parquet file"),
    (parquet(x=[1]), "has no column 'pair_id'; it has x"),
]


@pytest.mark.parametrize(("content", "text"), TABLES)
def test_a_table_that_is_none(tmp_path: Path, content: bytes | None, text: str) -> None:
    if content is not None:
        (tmp_path / "pairs.parquet").write_bytes(content)
    with pytest.raises(ArtefactError, match=text):
        read_table(tmp_path / "pairs.parquet", ["pair_id"])
