"""No pickle, no foreign code, no file beside the one that was meant."""

from __future__ import annotations

import ast
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hostile.harness import Sandbox
from tests.hostile.tables import encoded, good_rows
from truthful_rlhf.labelers import RecordedLabeler
from truthful_rlhf.labelers.checked import UniqueKeyLoader
from truthful_rlhf.labelers.recorded.table import read_annotations
from truthful_rlhf.pipeline.models.load import ModelNotFoundError, load_model
from truthful_rlhf.reward_model.gold import ClassifierGold

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path
    for package in ("aggregation", "benchmarks", "labelers", "pipeline", "reward_model")
    for path in (ROOT / package).rglob("*.py")
)
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "pd.read_pickle",
    "pandas.read_pickle",
}
SAFE_LOADERS = {"UniqueKeyLoader", "yaml.SafeLoader"}


def dotted(node: ast.AST) -> str:
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def cleaned(node: ast.expr) -> bool:
    """Whether a value comes from the sanitiser."""
    return isinstance(node, ast.Call) and dotted(node.func) == "nh3.clean"


def dangers(source: str) -> Iterator[str]:
    """Yield what a module does that could run the code of whoever wrote its input."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"import {name}" for name in names if name.split(".")[0] in FORBIDDEN_IMPORTS)
        if isinstance(node, ast.Call):
            name, options = dotted(node.func), {k.arg: k.value for k in node.keywords}
            loader = dotted(options["Loader"]) if "Loader" in options else ""
            true = {key for key, value in options.items() if isinstance(value, ast.Constant) and value.value is True}
            if name in FORBIDDEN_CALLS or "shell" in true:
                yield name
            if "trust_remote_code" in true or "allow_pickle" in true:
                yield f"{name} with {true}"
            if name == "torch.load" and "weights_only" not in true:
                yield "torch.load"
            if name.endswith("from_pretrained") and "AutoModel" in name and "gguf_file" not in source:
                yield from (f"{name} without {k}" for k in ("use_safetensors",) if k not in true)
            if name in ("yaml.unsafe_load", "yaml.full_load") or (name == "yaml.load" and loader not in SAFE_LOADERS):
                yield name
            if "Markup" in name and node.args and not (isinstance(node.args[0], ast.Constant) or cleaned(node.args[0])):
                yield f"{name} of a value"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_runs_its_input(path: Path) -> None:
    assert list(dangers(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from joblib import load", "eval('1')", "os.system(x)", "subprocess.run(x, shell=True)"),
        *("torch.load(x)", "torch.load(x, weights_only=False)", "np.load(x, allow_pickle=True)", "Markup(x)"),
        *("yaml.load(x, Loader=yaml.Loader)", "yaml.load(x)", "yaml.unsafe_load(x)", "pd.read_pickle(x)"),
        *("AutoModel.from_pretrained(x)", "AutoTokenizer.from_pretrained(x, trust_remote_code=True)"),
    ],
)
def test_the_check_finds_what_it_looks_for(source: str) -> None:
    """The negative control."""
    assert list(dangers(source))


def test_the_loader_of_configs_is_a_safe_one() -> None:
    assert issubclass(UniqueKeyLoader, yaml.SafeLoader)


def test_templates_escape_everything() -> None:
    templates = list((ROOT / "pipeline" / "templates").glob("*.html"))
    assert templates
    for path in templates:
        text = path.read_text(encoding="utf-8")
        for danger in ("|safe", "| safe", "autoescape false", "<script", "onerror=", "onclick=", "javascript:"):
            assert danger not in text, path.name


class Explosive:
    """Unpickled, it leaves a folder behind."""

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return os.mkdir, ("unpickled",)


def test_the_explosive_explodes(sandbox: Sandbox) -> None:
    """The negative control of the tests below and of the pickled tables."""
    pickle.loads(pickle.dumps(Explosive()))
    assert (sandbox.work / "unpickled").is_dir()


@pytest.fixture
def foreign_model(sandbox: Sandbox, tiny_model_folder: Path) -> Path:
    """A model folder with a tokenizer, pickled weights, and a Python module that would have to be run."""
    folder = sandbox.work / "model"
    folder.mkdir()
    for path in tiny_model_folder.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Explosive()))
    return folder


@pytest.mark.parametrize("load", [lambda f: load_model(str(f)), lambda f: ClassifierGold(str(f))])
def test_pickled_weights_are_not_read(sandbox: Sandbox, foreign_model: Path, load: Callable[[Path], Any]) -> None:
    with pytest.raises((ModelNotFoundError, OSError), match="safetensors"):
        load(foreign_model)
    assert not (sandbox.work / "unpickled").exists()


@pytest.mark.parametrize("load", [lambda f: load_model(str(f)), lambda f: ClassifierGold(str(f))])
def test_code_in_a_model_folder_is_not_run(sandbox: Sandbox, foreign_model: Path, load: Callable[[Path], Any]) -> None:
    code = "import os\nos.mkdir('imported')\nclass Config: pass\nclass Model: pass\n"
    (foreign_model / "code_of_a_stranger.py").write_text(code)
    names = {"AutoConfig": "code_of_a_stranger.Config", "AutoModelForCausalLM": "code_of_a_stranger.Model"}
    names["AutoModelForSequenceClassification"] = "code_of_a_stranger.Model"
    (foreign_model / "config.json").write_text(json.dumps({"model_type": "foreign", "auto_map": names}))
    with pytest.raises((ValueError, OSError)):
        load(foreign_model)
    assert not (sandbox.work / "imported").exists()


NAMES = [
    "../../x",
    "/tmp/x",
    "..",
    "a/b",
    "CON",
    "x\x00y",
    "~root",
    "$(touch x)",
    "`touch x`",
    "; touch x",
    "%2e%2e%2f",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_a_table_are_no_file_names(sandbox: Sandbox, name: str) -> None:
    """Ids of pairs and labelers, topics and texts go into the tables as they are and into no path."""
    rows = [
        row | {"pair_id": name + row["pair_id"], "labeler_id": name + row["labeler_id"], "topic": name, "prompt": name}
        for row in good_rows()
    ]
    file = sandbox.write("votes.jsonl", encoded(rows, "jsonl"))
    result = sandbox.run("aggregate", str(file), "--out", "out", "--topic-column", "topic", "--rule", "mean")
    assert result.exit_code == 0, result.output
    names = {path.name for path in sandbox.out.rglob("*")}
    assert names <= {
        *("soft_labels.parquet", "trl_preference.parquet", "trl_preference_conversational.parquet"),
        *("weights.parquet", "labelers.json", "report.html"),
    }
    ann = RecordedLabeler(read_annotations(file), name + "ann")
    assert ann.labeler_id == name + "ann"
