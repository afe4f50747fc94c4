"""Annotation files that ``aggregate`` has to refuse, naming the file and the row, at the command line."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.hostile.harness import Sandbox
from tests.hostile.tables import encoded, good_rows, parquet, spoilt

# What one cell cannot be: (column, value, text of the message). Every message also names the file and the row.
TEXT_CELLS: list[tuple[str, str, str]] = [
    ("report", "1.5", "1.5 is not in [0, 1]"),
    ("report", "-0.000001", "is not in [0, 1]"),
    ("report", "inf", "inf is not in [0, 1]"),
    ("report", "-Infinity", "is not in [0, 1]"),
    ("report", "1e400", "inf is not in [0, 1]"),
    ("report", "0,5", "'0,5' is neither a number in [0, 1] nor one of"),
    ("report", "150%", "1.5 is not in [0, 1]"),
    ("report", "0x1", "'0x1' is neither a number"),
    ("report", "better", "'better' is neither a number in [0, 1] nor one of a, abstain, b, both"),
    ("report", "AB", "'AB' is neither"),
    ("report", "__import__('os').system('true')", "is neither a number"),
    ("report", "=1+1", "'=1+1' is neither a number"),
    ("report", "\x1b[2J", "is neither a number"),
    ("report", "9" * 5000, "is not in [0, 1]"),
    ("report", "x" * 5000, "..."),
    ("outcome", "0.7", "outcome (pair 'p0'): 0.7 is not an outcome"),
    ("outcome", "2", "outcome (pair 'p0'): 2.0 is not in [0, 1]"),
    ("outcome", "correct", "outcome (pair 'p0'): 'correct' is neither 0, 1 nor one of"),
    ("outcome", "A,B", "outcome (pair 'p0')"),
    ("outcome", "B", "contradicts row 1"),
    ("labeler_id", "", "labeler_id is empty"),
    ("labeler_id", "ann", "labeler 'ann' already judged pair 'p0' in row 1"),
    ("prompt", "another", "pair 'p0' has another prompt or other responses"),
    ("response_a", "another", "pair 'p0' has another prompt or other responses"),
    ("round", "yesterday", "'yesterday' is neither a number nor an ISO 8601 time"),
    ("round", "inf", "neither a number nor an ISO 8601 time"),
    ("round", "2024-13-45", "neither a number nor an ISO 8601 time"),
]

JSON_CELLS: list[tuple[str, Any, str]] = [
    ("report", [0.5], "[0.5] is neither a number"),
    ("report", {"value": 0.5}, "{'value': 0.5} is neither a number"),
    ("report", 10**400, "is neither a number"),
    ("report", -1, "-1.0 is not in [0, 1]"),
    ("outcome", [1], "outcome (pair 'p0'): [1] is neither"),
    ("outcome", {"$numberInt": "1"}, "outcome (pair 'p0')"),
    ("labeler_id", None, "labeler_id is empty"),
    ("labeler_id", ["ann"], "labeler_id: expected a text, found ['ann']"),
    ("labeler_id", {"id": 7}, "labeler_id: expected a text, found {'id': 7}"),
    ("labeler_id", "\ud800", "half of a surrogate pair"),
    ("pair_id", {"$oid": "5"}, "pair_id: expected a text, found {'$oid': '5'}"),
    ("pair_id", ["p0"], "pair_id: expected a text"),
    ("pair_id", "\udfff", "half of a surrogate pair"),
    ("prompt", [7], "prompt and responses must be texts"),
    ("response_b", {"text": "x"}, "prompt and responses must be texts"),
    ("topic", ["law"], "topic: expected a text"),
    ("topic", {"name": "law"}, "topic: expected a text"),
    ("round", [1], "neither a number nor an ISO 8601 time"),
    ("round", {"$date": 0}, "neither a number nor an ISO 8601 time"),
]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize(("column", "value", "text"), TEXT_CELLS)
def test_a_text_in_a_cell(sandbox: Sandbox, kind: str, column: str, value: str, text: str) -> None:
    file = sandbox.write(f"votes.{kind}", encoded(spoilt(2, **{column: value}), kind))
    sandbox.refuse(["aggregate", str(file), "--out", "out"], "AnnotationError", f"votes.{kind}: row 2: ", text)


@pytest.mark.parametrize(("column", "value", "text"), JSON_CELLS)
def test_a_json_value_in_a_cell(sandbox: Sandbox, column: str, value: Any, text: str) -> None:
    file = sandbox.write("votes.jsonl", encoded(spoilt(2, **{column: value}), "jsonl"))
    sandbox.refuse(["aggregate", str(file), "--out", "out"], "AnnotationError", "votes.jsonl: row 2: ", text)


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("../../escaped.jsonl", encoded(good_rows(), "jsonl"))  # a zip-slip name
    return sink.getvalue()


def saved_array() -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.array([{"report": 1}], dtype=object), allow_pickle=True)
    return sink.getvalue()


class Explosive:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return os.mkdir, ("unpickled",)


GOOD = encoded(good_rows(), "jsonl")
CSV = encoded(good_rows(), "csv")
PARQUET = encoded(good_rows(), "parquet")
LONG = {"pair_id": ["p"], "labeler_id": ["ann"]}

# (file name, content, text of the message)
FILES: list[tuple[str, bytes, str]] = [
    ("a.jsonl", b"", "a.jsonl: the file is empty"),
    ("a.jsonl", b"\n\n \n", "a.jsonl: there are no reports in it"),
    ("a.jsonl", b"\xef\xbb\xbf", "a.jsonl: there are no reports in it"),
    ("a.jsonl", b"null\n", "line 1: expected a JSON object, found NoneType"),
    ("a.jsonl", b"0.5\n", "line 1: expected a JSON object, found float"),
    ("a.jsonl", b"'pair_id'\n", "line 1: not valid JSON"),
    ("a.jsonl", GOOD + b'{"pair_id": "p9", ', "line 10: not valid JSON"),
    ("a.jsonl", GOOD[:-40], "line 9: not valid JSON"),
    ("a.jsonl", b"{}\n", "a.jsonl: this is none of the formats long, crowdkit"),
    ("a.jsonl", b'{"": 1}\n', "'labeler_id' is missing"),
    ("a.jsonl", b'{"labeller_id": "ann", "reprot": 1}\n', "did you mean 'reprot'"),
    ("a.jsonl", b"\xff\xfe\x00\xd8" + GOOD, "a.jsonl: begins like UTF-16 and is not"),
    ("a.jsonl", "é".encode("latin1") + GOOD, "line 1: not UTF-8"),
    ("a.jsonl", b"\x00" * 100, "line 1: not valid JSON"),
    ("a.jsonl", b"[" * 50_000, "nested too deeply"),
    ("a.jsonl", b'{"report": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested too deeply"),
    ("a.jsonl", b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>', "line 1: not valid JSON"),
    ("a.json", b"[]", "a.json: there are no reports in it"),
    ("a.json", b"[", "record 1: not valid JSON, or the file is cut off"),
    ("a.json", b"[null]", "record 1: expected a JSON object, found NoneType"),
    ("a.json", b"[[]]", "record 1: expected a JSON object, found list"),
    ("a.json", encoded(good_rows(), "json")[:-30], "record 9: not valid JSON, or the file is cut off"),
    ("a.json", b'{"rows": []}', "a.json: this is none of the formats"),
    ("a.csv", b"pair_id,labeler_id,report\n", "a.csv: there are no reports in it"),
    ("a.csv", b"\n", "a.csv: there are no reports in it"),
    ("a.csv", CSV + b"p9,x\n", "row 10: 2 fields, the header has 7"),
    ("a.csv", CSV + b'p9,"x', "row 10"),
    ("a.csv", b"pair_id,labeler_id,labeler_id,report\np,a,b,1\n", "two columns have the same name"),
    ("a.csv", b"\x1b[31mpair,labeler,score\np,a,1\n", "'labeler_id' is missing (did you mean 'labeler'"),
    ("a.csv", b"sep=,\npair_id,labeler_id,report\np,a,1\n", "row 1: 3 fields, the header has 2"),
    ("a.csv", b"\xff\xfe" + b"\x00\xdc" * 9, "a.csv: begins like UTF-16 and is not"),
    ("a.tsv", b"pair_id\tlabeler_id\treport\np\ta\n", "row 1: 2 fields, the header has 3"),
    ("a.parquet", PARQUET[: len(PARQUET) // 2], "a.parquet: not a readable Parquet file"),
    ("a.parquet", PARQUET[:-8] + b"\xff\xff\xff\x7fPAR1", "a.parquet: not a readable Parquet file"),
    ("a.parquet", b"PAR1", "a.parquet: not a readable Parquet file"),
    ("a.parquet", GOOD, "unknown kind of file '.parquet'"),
    ("a.parquet", parquet(**LONG, report=np.array([], dtype=float)[:0].tolist() or [[0.5]]), "row 1: report"),
    ("a.parquet", parquet(**LONG, report=[{"p": 0.5}]), "row 1: report"),
    ("a.parquet", parquet(**LONG, report=[b"\xff\xfe"]), "row 1: report"),
    ("a.parquet", parquet(pair_id=["p"], labeler_id=[b"\xff"], report=[1.0]), "row 1: labeler_id"),
    ("a.parquet", parquet(pair_id=["p"], labeler_id=[["ann"]], report=[1.0]), "row 1: labeler_id: expected a text"),
    ("a.parquet", parquet(pair_id=[], labeler_id=[], report=[]), "a.parquet: there are no reports in it"),
    ("a.parquet", parquet(x=[1]), "a.parquet: this is none of the formats"),
    ("a.zip", zipped(), "this is a zip archive"),
    ("a.xlsx", zipped(), "this is a zip archive (or a spreadsheet)"),
    ("a.jsonl", zipped(), "this is a zip archive"),
    ("a.jsonl.gz", gzip.compress(GOOD)[:-20], "a.jsonl.gz: cannot be unpacked"),
    ("a.parquet.gz", gzip.compress(PARQUET), "unknown kind of file '.parquet'"),
    ("a.txt.gz", gzip.compress(PARQUET), "a packed Parquet file"),
    ("a.csv", bz2.compress(CSV), "this is bzip2"),
    ("a.jsonl", lzma.compress(GOOD), "this is xz"),
    ("a.jsonl", b"\x28\xb5\x2f\xfd" + GOOD, "a.jsonl: cannot be unpacked"),
    ("a.pkl", pickle.dumps(Explosive()), "unknown kind of file '.pkl'; valid: .jsonl"),
    ("a.pickle", pickle.dumps(Explosive()), "unknown kind of file '.pickle'"),
    ("a.pt", pickle.dumps(Explosive()), "unknown kind of file '.pt'"),
    ("a.bin", pickle.dumps(Explosive()), "unknown kind of file '.bin'"),
    ("a.npy", saved_array(), "unknown kind of file '.npy'"),
    ("a.jsonl", pickle.dumps(Explosive()), "line 1: not UTF-8"),
    ("a.json", pickle.dumps(Explosive(), protocol=0), "not valid JSON"),
    ("a.csv", pickle.dumps(Explosive(), protocol=0), "a.csv"),
    ("a.parquet", pickle.dumps(Explosive()), "unknown kind of file '.parquet'"),
    ("a.html", b"<script>alert(1)</script>", "unknown kind of file '.html'"),
    ("a", GOOD, "unknown kind of file ''"),
    ("a\x1b[2J.pkl", GOOD, "unknown kind of file '.pkl'"),
    ("[red]a[bold].jsonl", b"", "[red]a[bold].jsonl: the file is empty"),
]


@pytest.mark.parametrize(("name", "content", "text"), FILES)
def test_a_file_that_is_no_table(sandbox: Sandbox, name: str, content: bytes, text: str) -> None:
    sandbox.write(name, content)
    sandbox.refuse(["aggregate", name, "--out", "out"], "AnnotationError", text)
    assert not (sandbox.work / "unpickled").exists()


def record(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


MTBENCH = {"question_id": 1, "model_a": "x", "model_b": "y", "judge": "ann", "winner": "model_a"}
ARGILLA = {"id": "1", "fields": {"prompt": "?", "response_a": "x", "response_b": "y"}}
STUDIO = {"id": 1, "data": {"prompt": "?", "response_a": "x", "response_b": "y"}}
CHOICE = {"type": "choices", "value": {"choices": ["response_a"]}}

# Records of the other formats: (record, text of the message)
FORMATS: list[tuple[bytes, str]] = [
    (record(task="t", worker="ann", label="best"), "row 1: report (labeler 'ann', pair 't'): 'best' is neither"),
    (record(task=["t"], worker="ann", label="left"), "row 1: pair_id: expected a text"),
    (record(left="x", right="y", worker=None, label="x"), "row 1: labeler_id is empty"),
    (record(left="x", right="y", worker="ann", label="z"), "'z' is neither"),
    (record(task="t", worker="ann", label="left") + record(task="t", worker="bob"), "row 2: no 'label'"),
    (record(**MTBENCH | {"winner": "model_c"}), "'model_c' is neither"),
    (record(**MTBENCH | {"judge": ""}), "labeler_id is empty"),
    (record(**MTBENCH, conversation_a="hello", conversation_b="hello"), "row 1: not a mtbench record"),
    (record(**MTBENCH, conversation_a=[{"role": "user"}], conversation_b=[]), "row 1: no 'content'"),
    (record(**MTBENCH, conversation_a=[{"role": "user", "content": "?"}], conversation_b=[]), "not a mtbench record"),
    (record(**MTBENCH, conversation_a=[{"content": "?"}]), "row 1: no 'role'"),
    (record(**ARGILLA, responses={"q1": [], "q2": []}), "several questions: q1, q2. Say which one with --column"),
    (record(**ARGILLA, responses=[]), "there are no reports in it"),
    (record(**ARGILLA, responses={"q": 7}), "row 1: not a argilla record"),
    (record(**ARGILLA, responses={"q": ["yes"]}), "row 1: not a argilla record"),
    (record(**ARGILLA, responses={"q": [{"value": "response_c", "user_id": "ann"}]}), "'response_c' is neither"),
    (record(**ARGILLA, responses={"q": [{"value": "response_a"}]}), "labeler_id is empty"),
    (record(id="1", fields={"prompt": "?"}, responses={"q": []}), "no field 'response_a'; fields: prompt"),
    (record(id="1", fields="x", responses={"q": []}), "row 1: "),
    (record(id="1", fields=None, responses=None), "row 1: "),
    (record(**STUDIO, annotations=None), "row 1: not a labelstudio record"),
    (record(**STUDIO, annotations={"a": 1}), "row 1: not a labelstudio record"),
    (record(**STUDIO, annotations=[]), "there are no reports in it"),
    (record(**STUDIO, annotations=[{"result": [CHOICE]}]), "labeler_id is empty"),
    (record(**STUDIO, annotations=[{"result": [CHOICE | {"value": "x"}], "completed_by": 1}]), "not a labelstudio"),
    (record(**STUDIO, annotations=[{"result": "x", "completed_by": 1}]), "not a labelstudio record"),
    (record(**STUDIO, annotations=[{"result": [CHOICE], "completed_by": [1]}]), "labeler_id: expected a text"),
    (record(id=1, data="x", annotations=[]), "row 1: "),
    (record(id=1, data={"question": "?", "answer": "x"}, annotations=[]), "no field 'response_a'"),
]


@pytest.mark.parametrize(("content", "text"), FORMATS)
def test_records_of_other_formats(sandbox: Sandbox, content: bytes, text: str) -> None:
    sandbox.write("export.jsonl", content)
    sandbox.refuse(["aggregate", "export.jsonl", "--out", "out"], "AnnotationError", "export.jsonl: ", text)


def test_what_is_no_regular_file(sandbox: Sandbox) -> None:
    sandbox.write("votes.jsonl", GOOD)
    (sandbox.work / "folder.jsonl").mkdir()
    (sandbox.work / "dangling.jsonl").symlink_to("nothing.jsonl")
    os.mkfifo(sandbox.work / "pipe.jsonl")
    for source, text in [
        ("folder.jsonl", "not a regular file"),
        ("pipe.jsonl", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("dangling.jsonl", "no such file"),
        ("vote.jsonl", "did you mean 'votes.jsonl'"),
        ("nowhere/at/all/votes.jsonl", "no such file"),
        ("votes.jsonl/votes.jsonl", "no such file"),
        ("x" * 5000 + ".jsonl", "File name too long"),
        ("a\x00b.jsonl", "a\\x00b.jsonl: no such file"),
        ("", "not a regular file"),
        ("hf://", "hf://owner/name"),
        ("hf://../../etc/passwd", "hf://owner/name"),
        ("https://example.com/votes.jsonl", "no such file"),
    ]:
        sandbox.refuse(["aggregate", source, "--out", "out"], "AnnotationError", text)
