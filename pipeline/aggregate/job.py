"""The job behind ``truthful-rlhf aggregate``: annotations in, a folder of labels, data sets and reports out."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from truthful_rlhf.labelers.recorded.files.source import is_file
from truthful_rlhf.labelers.recorded.table import Annotations
from truthful_rlhf.pipeline.aggregate.campaign import AggregationSettings, CampaignResult, LiveRounds, run_campaign
from truthful_rlhf.pipeline.aggregate.exports import write_labels, write_weights
from truthful_rlhf.pipeline.aggregate.measures import Analysis, analyse
from truthful_rlhf.pipeline.aggregate.report import write_html, write_labelers_json


def aggregate_into(
    out: Path,
    annotations: Annotations,
    settings: AggregationSettings,
    source: Any,
    columns: Mapping[str, str],
    on_step: Callable[[str], None] = lambda step: None,
    copies: int = 0,
    live: LiveRounds | None = None,
) -> tuple[CampaignResult, Analysis]:
    """Aggregate and write everything below ``out``.

    Args:
        out: folder; made if it does not exist, files of an earlier run are replaced one by one, each at once.
        annotations: what was read from ``source``.
        settings: how to aggregate.
        source: for the provenance table: a file is named with its SHA-256.
        columns: the column mapping it was read with.
        on_step: told what comes next.
        copies: per pair in the data sets for trainers without soft labels; 0 writes none of them.
        live: of a live campaign.
    """
    on_step("aggregating")
    result = run_campaign(annotations, settings, live)
    on_step("writing labels")
    write_labels(result, out, copies)
    write_weights(result, out)
    on_step("measuring labelers")
    analysis = analyse(result)
    provenance = _provenance(result, source, columns)
    write_labelers_json(result, analysis, provenance, out)
    on_step("drawing the report")
    write_html(result, analysis, provenance, out)
    return result, analysis


def _provenance(result: CampaignResult, source: Any, columns: Mapping[str, str]) -> list[tuple[str, str]]:
    reading = result.annotations.reading
    rows = [("source", f"{result.annotations.source} ({result.annotations.format} format)")]
    if is_file(source):
        with Path(source).open("rb") as file:
            rows.append(("SHA-256 of the source", hashlib.file_digest(file, "sha256").hexdigest()))
    if columns:
        rows.append(("columns", ", ".join(f"{name}={column}" for name, column in sorted(columns.items()))))
    rows.append(("rows read", f"{reading.rows:,}"))
    if reading.ignored_columns:
        rows.append(("columns not used", ", ".join(reading.ignored_columns)))
    packages = ("truthful-rlhf", "numpy", "pyarrow", "matplotlib")
    rows.append(("versions", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)))
    return rows
