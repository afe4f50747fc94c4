"""Annotation files are hostile input: each of these is refused (or read) with the file and the row in the message."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.files.source import MAX_RECORD_BYTES, read_records


def records(source: Any) -> list[tuple[int, dict[str, Any]]]:
    return [numbered for batch in read_records(source) for numbered in batch]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


ROWS = [{"x": k, "text": f'naïve {k}\n"quoted", = {k}'} for k in range(20_000)]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_records(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    frame = pd.DataFrame(ROWS)
    if kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif kind == "json":
        path.write_text(json.dumps(ROWS, indent=1))
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="," if kind == "csv" else "\t")
    found = records(path)
    assert len(found) == len(ROWS)
    assert [int(record["x"]) for _, record in found] == [row["x"] for row in ROWS]
    assert [record["text"] for _, record in found] == [row["text"] for row in ROWS]
    if kind != "jsonl":
        assert [number for number, _ in found] == list(range(1, len(ROWS) + 1))


def test_blank_lines_count_but_are_not_records_and_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"x": 1}\n\n{"x": 2}')
    assert records(path) == [(1, {"x": 1}), (3, {"x": 2})]
    assert records(write(tmp_path / "a.csv", b"\xef\xbb\xbfx;y\n1;2\n")) == [(1, {"x": "1", "y": "2"})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"x": 1}\n{"x": "caf\xe9"}\n', r"a.jsonl: line 2: not UTF-8 at byte 10 .*0xe9"),
        ("a.json", b'[{"x": "caf\xe9"}]', r"a.json: not UTF-8 near byte 11"),
        ("a.csv", b"x,y\n1,caf\xe9\n", r"a.csv: line 2: not UTF-8"),
        ("a.jsonl", '{"x": 1}\n{"x": \n', r"a.jsonl: line 2: not valid JSON"),
        ("a.jsonl", '{"x": 1}\n[1, 2]\n', r"a.jsonl: line 2: expected a JSON object, found list"),
        ("a.json", '[{"x": 1}, 7]', r"a.json: record 2: expected a JSON object, found int"),
        ("a.json", '[{"x": 1}, {"x": 2', r"a.json: record 2: not valid JSON, or the file is cut off"),
        ("a.json", '[{"x": 1}', r"a.json: record 2: not valid JSON, or the file is cut off"),
        ("a.jsonl", '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}", r"a.jsonl: line 1: the JSON is nested too deeply"),
        (
            "a.json",
            '[{"x": ' + "[" * 100_000 + "]" * 100_000 + "}]",
            r"a.json: record 1: the JSON is nested too deeply",
        ),
        ("a.jsonl", '{"x": ' + "9" * 10_000 + "}", r"a.jsonl: line 1: not valid JSON"),
        ("a.csv", "x,y\n1,2\n1,2,3\n", r"a.csv: row 2: 3 fields, the header has 2"),
        ("a.csv", "x,x\n1,2\n", r"a.csv: two columns have the same name"),
        ("a.parquet", b"PAR1 this is no parquet file PAR1", r"a.parquet: not a readable Parquet file"),
        ("a.jsonl", "", r"a.jsonl: the file is empty"),
        ("a.xyz", "x", r"unknown kind of file '.xyz'; valid: .jsonl"),
    ],
)
def test_a_broken_file_is_refused_with_its_row(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        records(write(tmp_path / name, content))


def test_archives_are_not_opened(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", "0" * 10_000_000)
    for path in (bomb, write(tmp_path / "a.jsonl", bz2.compress(b'{"x": 1}'))):
        with pytest.raises(AnnotationError, match=r"of compressed files only .gz and .zst are opened"):
            records(path)
    with pytest.raises(AnnotationError, match=r"Excel workbooks are not read.*save the sheet as 'CSV UTF-8'"):
        records(write(tmp_path / "a.xlsx", bomb.read_bytes()))


@pytest.mark.parametrize("pack", ["gz", "zst"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "json", "txt"])
def test_packed_files_are_read_like_unpacked_ones(tmp_path: Path, kind: str, pack: str) -> None:
    content = {"csv": "x,y\n1,é\n2,b\n", "json": '[{"x": 1, "y": "é"}, {"x": 2, "y": "b"}]'}
    text = content.get(kind, '{"x": 1, "y": "é"}\n{"x": 2, "y": "b"}\n').encode()
    packed = gzip.compress(text) if pack == "gz" else pa.compress(text, codec="zstd", asbytes=True)
    path = write(tmp_path / f"rows.{kind}.{pack}", packed)
    assert [(n, str(r["x"]), r["y"]) for n, r in records(path)] == [(1, "1", "é"), (2, "2", "b")]


def test_a_bomb_is_refused_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("truthful_rlhf.labelers.recorded.files.open.MAX_UNPACKED_BYTES", 3 * 2**20)
    small = write(tmp_path / "small.jsonl.gz", gzip.compress(b'{"x": 1}\n' * 300_000))
    assert len(records(small)) == 300_000
    bomb = write(tmp_path / "bomb.jsonl.gz", gzip.compress(b'{"x": 1}\n' * 1_000_000))
    with pytest.raises(AnnotationError, match=r"bomb.jsonl.gz: unpacks to more than"):
        records(bomb)
    with pytest.raises(AnnotationError, match=r"cut.jsonl.gz: cannot be unpacked"):
        records(write(tmp_path / "cut.jsonl.gz", small.read_bytes()[:-200]))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_encodings_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    text = "x\ty\n1\té\n2\t😀\n"
    bom = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    path = write(tmp_path / "a.tsv", bom + text.encode(encoding))
    assert [r for _, r in records(path)] == [{"x": "1", "y": "é"}, {"x": "2", "y": "😀"}]


def test_one_object_that_holds_a_table(tmp_path: Path) -> None:
    frame = pd.DataFrame([{"x": 1, "y": "a"}, {"x": 2, "y": "b"}, {"x": 3, "y": "c"}])
    rows = frame.to_dict("records")
    for orient in ("columns", "split", "table"):
        path = tmp_path / f"{orient}.json"
        frame.to_json(path, orient=orient, indent=1)
        found = [{key: record[key] for key in ("x", "y")} for _, record in records(path)]
        assert found == rows, orient
    for content in ({"data": rows}, {"version": "1", "data": rows}, {"rows": rows}):
        assert [r for _, r in records(write(tmp_path / "a.json", json.dumps(content, indent=2)))] == rows
        assert [r for _, r in records(write(tmp_path / "a.json", json.dumps(content)))] == rows
    single = {"x": 1, "annotations": [{"y": 2}], "data": {"z": 1}}
    assert [r for _, r in records(write(tmp_path / "a.json", json.dumps(single, indent=2)))] == [single]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json"])
def test_a_hundred_megabyte_record_is_refused_without_being_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.write({"a.jsonl": b'{"x": 1}\n{"x": "', "a.csv": b'x,y\n1,"', "a.json": b'[{"x": 1}, {"x": "'}[name])
        for _ in range(100):
            file.write(b"a" * 2**20)
    tracemalloc.start()
    with pytest.raises(AnnotationError, match=rf"{name}: (line|record) 2 .*longer than {MAX_RECORD_BYTES}"):
        records(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * MAX_RECORD_BYTES


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path / "votes.jsonl", "{}")
    with pytest.raises(AnnotationError, match=r"no such file .did you mean 'votes.jsonl'"):
        records(tmp_path / "vote.jsonl")
    with pytest.raises(AnnotationError, match="not a regular file"):
        records(tmp_path)


def test_a_hub_data_set_fails_fast_where_there_is_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def unreachable(self: Any, name: str, timeout: float) -> None:
        asked.append((name, timeout))
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    for source in ("hf://lmsys/mt_bench_human_judgments:human", "lmsys/mt_bench_human_judgments"):
        with pytest.raises(AnnotationError, match=r"lmsys/mt_bench_human_judgments: .*cannot be reached"):
            records(source)
    assert all(name == "lmsys/mt_bench_human_judgments" and timeout <= 5 for name, timeout in asked)
    with pytest.raises(AnnotationError, match="hf://owner/name"):
        records("hf://nonsense")


def test_tables_are_sources_too() -> None:
    datasets = pytest.importorskip("datasets")
    expected = [(1, {"x": 1}), (2, {"x": 2})]
    assert records([{"x": 1}, {"x": 2}]) == expected
    assert records(pd.DataFrame({"x": [1, 2]})) == expected
    assert records(datasets.Dataset.from_dict({"x": [1, 2]})) == expected
    with pytest.raises(AnnotationError, match="row 2: expected a dict"):
        records([{"x": 1}, 3])
