"""The card of a data set of soft labels on the Hub: how the labels were made, from whom, and how to train on them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from truthful_rlhf.pipeline.aggregate.campaign import CampaignResult
from truthful_rlhf.pipeline.aggregate.exports import CONVERSATIONAL, PLAIN, RESAMPLED, SOFT_LABELS, WEIGHTED
from truthful_rlhf.pipeline.aggregate.measures import Analysis
from truthful_rlhf.pipeline.aggregate.report import facts, setting_text, soft_label_text
from truthful_rlhf.pipeline.storage.hub import push, with_front_matter
from truthful_rlhf.pipeline.storage.markdown import markdown_table, markdown_text

_ROWS = 200
_SUBSETS = {
    "default": PLAIN,
    "conversational": CONVERSATIONAL,
    "resampled": RESAMPLED,
    "weighted": WEIGHTED,
    "soft_labels": SOFT_LABELS,
}
"""Name of the subset on the Hub -> file."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def push_data(name: str, out: Path, result: CampaignResult, analysis: Analysis, command: str, licence: str) -> str:
    """Upload the training data of a finished ``aggregate``; return the address.

    What is uploaded: the tables of soft labels and the card. Reports of single labelers stay on disk; the card has one
    line per labeler, under the names of the annotation file.

    Args:
        name: ``owner/name``.
        out: the folder that ``aggregate`` wrote.
        result: of the campaign.
        analysis: of its labelers.
        command: the line that made the labels.
        licence: the Hub's identifier of the data's licence.

    Raises:
        HubError: the Hub refuses, or cannot be reached.
    """
    files = {file: out / file for file in _SUBSETS.values() if (out / file).is_file()}
    card = data_card(name, list(files), result, analysis, command, licence)
    return push(name, "dataset", files, card, f"Soft labels by {result.rule.name}")


def data_card(
    name: str, files: list[str], result: CampaignResult, analysis: Analysis, command: str, licence: str
) -> str:
    """Return the card, with the front matter that the Hub reads.

    Args:
        name: ``owner/name``.
        files: names of the files in the repository.
        result: of the campaign.
        analysis: of its labelers.
        command: the line that made the labels.
        licence: the Hub's identifier of the data's licence.
    """
    n = result.annotations.n_pairs
    subsets = [{"config_name": key, "data_files": file} for key, file in _SUBSETS.items() if file in files]
    fields = {
        "license": licence,
        "tags": ["preference", "trl", "soft-labels", "truthful-rlhf"],
        "size_categories": [next((text for limit, text in _SIZES if n < limit), "n>1M")],
        "configs": subsets,
    }
    title = markdown_text(name.partition("/")[2])
    return with_front_matter(fields, "\n\n".join([f"# {title}", *_sections(name, files, result, analysis, command)]))


def _sections(name: str, files: list[str], result: CampaignResult, analysis: Analysis, command: str) -> list[str]:
    counts = ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in facts(result).items())
    parts = [
        "One probability per pair that the chosen response is better (`soft_label`, at least 0.5), from the reports of"
        f" several labelers. {counts}.",
        "## How the labels were made",
        f"{markdown_text(setting_text(result))} {soft_label_text(result)}",
        f"```sh\n{command.replace('`', '')}\n```",
        "## Labelers",
        _labelers(analysis),
    ]
    if analysis.warnings:
        parts += ["## Cautions", "\n".join(f"- {markdown_text(warning)}" for warning in analysis.warnings)]
    if PLAIN in files:
        parts += ["## Train on it", _training(name)]
    return parts


def _labelers(analysis: Analysis) -> str:
    headers = ["labeler", "weight", "reports", "on audited pairs", "accuracy", "Brier", "agreement"]
    keys = ("weight", "n_reports", "n_scored", "accuracy", "brier", "agreement")
    rows = [[row["labeler_id"], *(_figure(row[key]) for key in keys)] for row in analysis.labelers[:_ROWS]]
    hidden = len(analysis.labelers) - len(rows)
    return markdown_table(headers, rows) + (f"\nand {hidden:,} lighter ones" if hidden else "")


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3f}"
    return "–" if value is None else f"{value:,}"


def _training(name: str) -> str:
    return f"""```python
from datasets import load_dataset
from truthful_rlhf import SoftDPOTrainer

data = load_dataset("{name}", split="train")  # prompt, chosen, rejected, soft_label
SoftDPOTrainer(model, args=config, train_dataset=data, processing_class=tokenizer).train()
```

TRL's own `DPOTrainer` takes the same columns and ignores `soft_label`: every label is then certain."""
