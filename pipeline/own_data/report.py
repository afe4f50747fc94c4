"""The report of a comparison on people's own annotations: one page, and the table as CSV, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from truthful_rlhf.labelers.recorded.reading import Reading
from truthful_rlhf.pipeline.experiment.context import N_FOLDS, Experiment
from truthful_rlhf.pipeline.own_data.estimates import Interval
from truthful_rlhf.pipeline.own_data.findings import Findings, points
from truthful_rlhf.pipeline.own_data.summary import Row, Table
from truthful_rlhf.pipeline.reports.gap_table import interval_text, results_csv
from truthful_rlhf.pipeline.storage.artifacts import write_bytes_atomically, write_json, write_text_atomically
from truthful_rlhf.pipeline.storage.figures import COLOURS, as_png, new_figure
from truthful_rlhf.pipeline.storage.html import render
from truthful_rlhf.pipeline.storage.markdown import markdown_table

COLUMNS = {
    "rule": "rule",
    "method": "method",
    "accuracy": "policy right [95 %]",
    "ahead": "points ahead of the mean [95 %]",
    "p_value": "p (Holm)",
    "log_loss": "log loss",
    "reward": "reward model right",
    "label": "labels right",
    "gap": "normalised gap [95 %]",
    "wins_base": "wins against base",
    "wins_mean": "wins against mean",
    "n_tokens": "tokens",
    "kl": "KL",
}
_ALWAYS = ("rule", "method", "accuracy", "ahead", "p_value")
_IN_THE_TERMINAL = ("rule", "method", "accuracy", "ahead", "p_value", "log_loss", "reward", "label")
TEXTS = ("rule", "method")


def cells(row: Row) -> dict[str, str]:
    """Return a row as texts by the names of `COLUMNS`."""
    gap = "" if row.gap_interval is None else f" {interval_text(*row.gap_interval)}"
    return {
        "rule": row.rule,
        "method": row.method or "–",
        "accuracy": _share(row.accuracy, with_interval=True),
        "ahead": "–"
        if row.ahead is None
        else f"{points(row.ahead.mean)} [{points(row.ahead.low)}, {points(row.ahead.high)}]",
        "p_value": "–" if row.p_value is None else f"{row.p_value:.3f}",
        "log_loss": "–" if row.log_loss is None else f"{row.log_loss.mean:.3f}",
        "reward": _share(row.reward_accuracy),
        "label": _share(row.label_accuracy),
        "gap": "–" if row.gap is None else f"{row.gap:.2f}{gap}",
        "wins_base": _share(row.wins_base, with_interval=True),
        "wins_mean": _share(row.wins_mean, with_interval=True),
        "n_tokens": "–" if row.n_tokens is None else f"{row.n_tokens:.1f}",
        "kl": "–" if row.kl is None else f"{row.kl:.2f}",
    }


def _share(found: Interval | None, with_interval: bool = False) -> str:
    if found is None:
        return "–"
    return f"{found.mean:.0%}" + (f" [{found.low:.0%}, {found.high:.0%}]" if with_interval else "")


def shown_columns(rows: Sequence[Row]) -> list[str]:
    """Return the names of the columns in which anything stands."""
    texts = [cells(row) for row in rows]
    return [name for name in COLUMNS if name in _ALWAYS or any(text[name] != "–" for text in texts)]


def table_of(rows: Sequence[Row], terminal: bool = False) -> tuple[list[str], list[list[str]], int]:
    """Return headers, cells and the number of text columns.

    Args:
        rows: of the table.
        terminal: leave out what a terminal has no room for.
    """
    names = [name for name in shown_columns(rows) if not terminal or name in _IN_THE_TERMINAL]
    body = [[cells(row)[name] for name in names] for row in rows]
    return [COLUMNS[name] for name in names], body, sum(name in TEXTS for name in names)


def accuracy_forest(rows: Sequence[Row]) -> bytes:
    """Draw the accuracy of every row on the held-out verdicts with its 95 % interval; references are grey."""
    drawn = [(row, row.accuracy or row.reward_accuracy) for row in rows]
    figure, axes = new_figure(height=1.1 + 0.38 * len(drawn))
    for place, (row, found) in enumerate(drawn):
        assert found is not None
        colour = COLOURS[6] if row.is_reference else COLOURS[0]
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=1.6)
        axes.plot(found.mean, place, "o", color=colour)
    several = len({row.method for row in rows} - {None}) > 1
    axes.set_yticks(range(len(drawn)), [f"{r.rule}, {r.method}" if several and r.method else r.rule for r in rows])
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.axvline(0.5, color=COLOURS[6], linestyle=":", linewidth=1)
    axes.set_xlabel("right on the held-out verdicts (95 % interval; dotted: a coin)")
    return as_png(figure)


def write_report(experiment: Experiment, table: Table, found: Findings, reading: Reading, command: str) -> Path:
    """Write ``report.html``, ``figures/accuracy.png``, ``results.csv|md``, ``differences.csv`` and ``evaluation.json``.

    Args:
        experiment: the whole.
        table: its rows.
        found: what may be said.
        reading: what was read of the file.
        command: what made the run, shown on the page.
    """
    folder, config = experiment.folder.root, experiment.config
    columns, body, n_text = table_of(table.rows)
    images = {"accuracy": accuracy_forest(table.rows)}
    wins = table.wins
    judged = wins is not None and wins.jury is not None
    page = render(
        "own_data.html",
        images,
        title="Trained on these annotations, which rule gives the better policy?",
        verdict=found.verdict,
        findings=found.sentences,
        setting=_setting(experiment, table),
        columns=columns,
        n_text=n_text,
        table=[{"cells": row, "reference": r.is_reference} for row, r in zip(body, table.rows, strict=True)],
        differences=_differences(table, judged),
        difference_columns=["rule", "other", "method", "points right", "log loss saved", *(["wins"] if judged else [])],
        n_folds=N_FOLDS,
        n_seeds=table.n_seeds,
        judges=None if wins is None else _judges(wins.judges),
        jury=None if wins is None or wins.jury is None else _judges([wins.jury])[0],
        asked=wins is not None,
        reading=str(reading),
        command=command,
        config=(folder / "config.yaml").read_text(encoding="utf-8"),
        environment=(folder / "environment.json").read_text(encoding="utf-8"),
        audit_rate=config.audit_rate,
    )
    for name, image in images.items():
        write_bytes_atomically(folder / "figures" / f"{name}.png", image)
    write_text_atomically(folder / "results.csv", results_csv(table.rows))
    write_text_atomically(folder / "differences.csv", results_csv(table.differences))
    text = "\n".join([found.verdict, "", *found.sentences, "", markdown_table(columns, body, n_text)])
    write_text_atomically(folder / "results.md", text)
    write_json(folder / "evaluation.json", [row.record() for row in table.rows])
    write_text_atomically(folder / "report.html", page)
    return folder / "report.html"


def _setting(experiment: Experiment, table: Table) -> str:
    config = experiment.config
    methods = ", ".join(entry.title for entry in config.policy)
    seeds = f"seed{'s' if table.n_seeds > 1 else ''} {', '.join(map(str, config.seeds))}"
    return (
        f"Model {config.model.name_or_path}, {methods}; {table.n_verdicts} verdicts, each held out once per seed in one"
        f" of {N_FOLDS} folds of prompts; {config.audit_rate:.0%} of the other verdicts shown to the rules; {seeds}."
    )


def _differences(table: Table, judged: bool) -> list[list[str]]:
    return [
        [
            *(row.rule, row.other, row.method),
            f"{points(row.accuracy.mean)} [{points(row.accuracy.low)}, {points(row.accuracy.high)}]",
            f"{row.log_loss.mean:+.3f} [{row.log_loss.low:+.3f}, {row.log_loss.high:+.3f}]",
            *([_share(row.wins, with_interval=True)] if judged else []),
        ]
        for row in table.differences
    ]


def _judges(rows: Sequence[Any]) -> list[list[str]]:
    return [
        [
            row.name,
            f"{row.pairs}",
            "–" if row.accuracy is None else f"{row.accuracy:.0%} [{row.low:.0%}, {row.high:.0%}]",
            f"{row.weight:.2f}",
            row.advice,
        ]
        for row in rows
    ]
