"""Write the fixtures of `test_tools` with the tools' own writers: Label Studio's converter and Argilla's exporters.

Neither is a dependency. To make the fixtures again, with the versions of ``tools/VERSIONS``:

    python -m venv /tmp/tools && /tmp/tools/bin/pip install label-studio-sdk==2.1.2 argilla==2.8.0
    /tmp/tools/bin/python tests/labelers/recorded/make_tool_fixtures.py

Everything is made up. Three people judged three pairs: A, A, B; B, B, and nobody; A, B.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

TOOLS = Path(__file__).parent / "tools"
TEXTS = [("Name a colour", "Blue", "Table"), ("Two plus two", "Five", "Four"), ("Say hi", "Hi", "Hello")]
VOTES = [("A", "A", "B"), ("B", "B"), ("A", "B")]
CONFIG = """
<View>
  <Text name="prompt" value="$prompt"/>
  <Text name="answer1" value="$answer1"/>
  <Text name="answer2" value="$answer2"/>
  {control}
  <Choices name="harm" toName="prompt"><Choice value="None"/><Choice value="Some"/></Choices>
</View>
"""
CONTROLS = {
    "pairwise": '<Pairwise name="pref" toName="answer1,answer2"/>',
    "choices": '<Choices name="pref" toName="prompt"><Choice value="answer1"/><Choice value="answer2"/></Choices>',
    "ranker": '<Ranker name="pref" toName="prompt"/>',
}


def control_result(control: str, vote: str) -> dict[str, Any]:
    """One region of an annotation, as Label Studio's front end stores it."""
    first, second = ("answer1", "answer2") if vote == "A" else ("answer2", "answer1")
    value: dict[str, Any] = {
        "pairwise": {"selected": "left" if vote == "A" else "right"},
        "choices": {"choices": [first]},
        "ranker": {"ranker": {"rank": [first, second]}},
    }[control]
    to_name = "answer1,answer2" if control == "pairwise" else "prompt"
    return {"id": "r1", "from_name": "pref", "to_name": to_name, "type": control, "value": value, "origin": "manual"}


def label_studio_tasks(control: str) -> list[dict[str, Any]]:
    """Tasks as Label Studio stores them; user 9's verdict on the first is marked as ground truth, twice."""
    harm = {"id": "r2", "from_name": "harm", "to_name": "prompt", "type": "choices", "value": {"choices": ["None"]}}
    tasks, number = [], 0
    for task, (texts, votes) in enumerate(zip(TEXTS, VOTES, strict=True), start=1):
        annotations = []
        for user, vote in enumerate(votes, start=1):
            number += 1
            results = [control_result(control, vote), harm]
            annotations.append(annotation(number, user, results[:: (-1) ** user]))
        if task == 1:
            number += 1
            first_try = annotation(number, 3, [control_result(control, "A"), harm])
            annotations.append({**first_try, "updated_at": "2024-04-01T10:00:00Z"})
            for user in (8, 9):
                number += 1
                truth = annotation(number, user, [control_result(control, "A")])
                annotations.append({**truth, "ground_truth": True})
        if task == 2:
            number += 1
            annotations.append({**annotation(number, 3, []), "was_cancelled": True})
        data = dict(zip(("prompt", "answer1", "answer2"), texts, strict=True))
        tasks.append({"id": task, "data": data, "annotations": annotations, "predictions": []})
    return tasks


def annotation(number: int, user: int, results: list[dict[str, Any]]) -> dict[str, Any]:
    """One annotation."""
    at = "2024-05-01T10:00:00Z"
    times = {"created_at": at, "updated_at": at, "lead_time": 9.1}
    flags = {"was_cancelled": False, "ground_truth": False}
    return {"id": number, "completed_by": user, "result": results, **flags, **times}


def write_label_studio() -> None:
    """Write the JSON, JSON_MIN and CSV exports of every control."""
    from label_studio_sdk.converter import Converter

    for control, tag in CONTROLS.items():
        with tempfile.TemporaryDirectory() as folder:
            tasks = Path(folder) / "tasks.json"
            tasks.write_text(json.dumps(label_studio_tasks(control)))
            converter = Converter(CONFIG.format(control=tag), folder, download_resources=False)
            for format, suffix in (("JSON", "json"), ("JSON_MIN", "min.json"), ("CSV", "csv")):
                out = Path(folder) / format
                converter.convert(str(tasks), str(out), format, is_dir=False)
                made = out if out.is_file() else next(path for path in out.rglob("*") if path.is_file())
                shutil.copy(made, TOOLS / f"labelstudio_{control}.{suffix}")


def argilla_records(question: str, value: Any) -> list[Any]:
    """Records of Argilla 2; user 3 judged the second pair only as a draft."""
    import argilla as rg

    records = []
    for number, (texts, votes) in enumerate(zip(TEXTS, VOTES, strict=True), start=1):
        fields = dict(zip(("prompt", "response1", "response2"), texts, strict=True))
        responses = [
            rg.Response(question, value(vote), UUID(int=user), status="submitted")
            for user, vote in enumerate(votes, start=1)
        ]
        if number == 2:
            responses.append(rg.Response(question, value("A"), UUID(int=3), status="draft"))
        records.append(rg.Record(id=f"p{number}", fields=fields, responses=responses, metadata={"topic": "small"}))
    return records


def write_argilla() -> None:
    """Write nested and flat exports of a label, a rating and a ranking question."""
    from argilla.records._io import GenericIO, JsonIO

    values = {
        "label": lambda vote: "response1" if vote == "A" else "response2",
        "rating": lambda vote: 1 if vote == "A" else 5,
        "ranking": lambda vote: ["response1", "response2"] if vote == "A" else ["response2", "response1"],
    }
    for question, value in values.items():
        records = argilla_records(question, value)
        nested = TOOLS / f"argilla_{question}.json"
        nested.unlink(missing_ok=True)
        JsonIO.to_json(records, nested)
        flat = GenericIO.to_list(records, flatten=True)
        (TOOLS / f"argilla_{question}_flat.json").write_text(json.dumps(flat, default=str))


def main() -> None:
    """Write all fixtures."""
    TOOLS.mkdir(exist_ok=True)
    write_label_studio()
    write_argilla()
    versions = [f"{name}=={importlib.metadata.version(name)}\n" for name in ("label-studio-sdk", "argilla")]
    (TOOLS / "VERSIONS").write_text("".join(versions))


if __name__ == "__main__":
    main()
