"""The five questions of docs/results.md: a figure and a table each, from the CSVs of docs/evidence.

Nothing is measured here. The function of a question takes the folder of the CSVs and returns the figure as PNG bytes
and the table as Markdown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from benchmarks.evidence import gap_table, summary, write_figures
from truthful_rlhf.aggregation.statistics.intervals import Z
from truthful_rlhf.pipeline.reports.figures import gap_forest
from truthful_rlhf.pipeline.storage.artifacts import write_bytes_atomically
from truthful_rlhf.pipeline.storage.figures import COLOURS, as_png, new_figure
from truthful_rlhf.pipeline.storage.markdown import markdown_table

FINAL, STACKED = "online_weighted, final", "online_weighted, stacked"
SHOWN = ("mean", "majority", "dawid_skene", "gold_vote", "logistic", FINAL, STACKED)
"""Of the rules that were measured: what people do, the peers that see the audited outcomes too, and ours."""
MARKERS = "ovs^PDX"
CROWDS = {"judges": "30 LLM judges", "nyu": "people: debates", "mtbench": "people: MT-Bench"}


def averaging(folder: Path) -> tuple[bytes, str]:
    """What does averaging cost? Normalised gaps of the grid."""
    rows = summary(pd.read_csv(folder / "grid.csv"))
    shown = ("mean", "majority", "dawid_skene", "online_weighted")
    judged = [row for row in rows if row.rule in shown and row.gap.normalised is not None and not row.is_reference]
    return gap_forest(judged), gap_table([row for row in rows if row.rule in shown or row.is_reference])


def peers(folder: Path) -> tuple[bytes, str]:
    """What do peers with the same audits reach? Log loss of labels, a tenth of the pairs audited."""
    table = pd.read_csv(folder / "equal_audits.csv")
    table = table[(table["audited"] == "10%") & (table["pairs"] != 500)].copy()
    table["panel"] = table["panel"].replace(CROWDS)
    losses = table.pivot(index="panel", columns="rule, label", values="log loss").loc[
        table["panel"].unique(), list(SHOWN)
    ]
    return dots(losses, "log loss of the labels of unaudited pairs (less is better)", most=1.2), text(losses)


def audits(folder: Path) -> tuple[bytes, str]:
    """How many audits? Accuracy of labels against the number of audited pairs."""
    table = pd.read_csv(folder / "audit_rates.csv")
    ours = table[table["rule"] == "online_weighted"]
    figure, axes = new_figure()
    for colour, (pairs, rows) in zip(COLOURS, ours.groupby("pairs"), strict=False):
        audited = rows[rows["audited pairs"] > 0]
        axes.errorbar(
            audited["audited pairs"],
            audited["accuracy"],
            Z * audited["accuracy s.e."],
            color=colour,
            marker="o",
            label=f"{pairs:,} pairs",
        )
    axes.axhline(float(ours.loc[ours["audited pairs"] == 0, "accuracy"].mean()), color=COLOURS[6], linestyle=":")
    axes.annotate("no audits: the mean", (400, 0.1), color=COLOURS[6])
    axes.set(xscale="log", ylim=(0, 1), xlabel="audited pairs", ylabel="labels of unaudited pairs on the right side")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(frameon=False)
    cells = [f"{share:.2f} ({n:,})" for share, n in zip(ours["accuracy"], ours["audited pairs"], strict=True)]
    wide = (
        ours.assign(cell=cells)
        .pivot(index="audit rate", columns="pairs", values="cell")
        .loc[ours["audit rate"].unique()]
    )
    body = [[str(rate), *row] for rate, row in zip(wide.index, wide.to_numpy(), strict=True)]
    return as_png(figure), markdown_table(["audited", *(f"{pairs:,} pairs" for pairs in wide)], body)


def lying(folder: Path) -> tuple[bytes, str]:
    """Does lying pay? What a labeler who wants the labels near its own view gains by the best lie that was found."""
    table = pd.read_csv(folder / "label_taste.csv")
    table[["gain", "low", "high"]] *= 100
    liars = {"honest": "an ordinary labeler among honest ones", "biased_majority": "a contrarian in a biased majority"}
    rules = [*SHOWN, *(f"online_weighted, label={label}" for label in ("median", "quantile", "drawn"))]
    figure, axes = new_figure(width=8.0, height=4.6)
    columns = {}
    for shift, colour, (panel, title) in zip((-0.14, 0.14), COLOURS, liars.items(), strict=False):
        rows = table[table["panel"] == panel].set_index("rule").loc[rules]
        ends = [rows["gain"] - rows["low"], rows["high"] - rows["gain"]]
        places = [k + shift for k in range(len(rules))]
        axes.errorbar(rows["gain"], places, xerr=ends, fmt="o", color=colour, label=title)
        columns[title] = [f"{g:+.1f} [{lo:+.1f}, {hi:+.1f}]" for g, lo, hi in rows[["gain", "low", "high"]].to_numpy()]
    axes.axvline(0.0, color=COLOURS[6], linestyle=":", linewidth=1)
    axes.set(xlim=(-50, 25), xlabel="gain by the best lie found, % of the truthful payoff (above 0: lying pays)")
    axes.set_yticks(range(len(rules)), rules)
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    body = [[rule, *cells] for rule, *cells in zip(rules, *columns.values(), strict=True)]
    return as_png(figure), markdown_table(["rule, label", *columns], body)


def no_help(folder: Path) -> tuple[bytes, str]:
    """When does it not help? Accuracy of labels where few lie or few audits help, and where audits are known."""
    equal = pd.read_csv(folder / "equal_audits.csv")
    crowds = {
        "honest": "honest, 144 pairs",
        "copies": "copies of one another, 144 pairs",
        "topic_liars": "liars on some topics, 144 pairs",
        "nyu": "people: debates, 305 pairs",
        "mtbench": "people: MT-Bench, 285 pairs",
    }
    equal = equal[(equal["audited"] == "10%") & (equal["pairs"] != 500) & equal["panel"].isin(list(crowds))]
    attacks = pd.read_csv(folder / "attacks.csv").rename(columns={"rule": "rule, label"})
    attacks = attacks[(attacks["attack"] == "know the audited pairs, lie on the rest")]
    rows = pd.concat(
        [
            equal.assign(crowd=equal["panel"].map(crowds)),
            attacks.assign(crowd=[f"audits leaked to {share}, 500 pairs" for share in attacks["attackers"]]),
        ]
    )
    accuracy = rows.pivot(index="crowd", columns="rule, label", values="accuracy")
    accuracy = accuracy.loc[rows["crowd"].unique(), list(SHOWN)]
    return dots(accuracy, "labels of unaudited pairs on the right side (more is better)"), text(accuracy)


def dots(table: pd.DataFrame, label: str, most: float = float("inf")) -> bytes:
    """Draw dots per row of a table, a colour per column; what lies beyond ``most`` is an arrow at the edge."""
    figure, axes = new_figure(width=8.0, height=1.4 + 0.5 * len(table))
    for k, (colour, name) in enumerate(zip((*COLOURS[:6], COLOURS[7]), table, strict=False)):
        beyond = table[name] > most
        places = pd.Series(range(len(table)), index=table.index) + (k - len(table.columns) / 2) * 0.09
        axes.plot(table[name][~beyond], places[~beyond], MARKERS[k], color=colour, label=name, markersize=5)
        axes.plot([most] * int(beyond.sum()), places[beyond], ">", color=colour, markersize=5)
    for place in range(1, len(table)):
        axes.axhline(place - 0.5, color=COLOURS[6], linewidth=0.4)
    axes.set_yticks(range(len(table)), [str(name) for name in table.index])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return as_png(figure)


def text(table: pd.DataFrame) -> str:
    """Return a table of numbers as Markdown."""
    rows = zip(table.index, table.to_numpy(), strict=True)
    body = [[str(name), *(f"{value:.3f}" for value in values)] for name, values in rows]
    return markdown_table([str(table.index.name), *map(str, table)], body)


QUESTIONS: Mapping[str, Callable[[Path], tuple[bytes, str]]] = {
    "averaging": averaging,
    "peers": peers,
    "audits": audits,
    "lying": lying,
    "no_help": no_help,
}


def remake(folder: Path) -> None:
    """Write every figure of the results pages into the folder of the CSVs and print the five tables."""
    for name, question in QUESTIONS.items():
        figure, table = question(folder)
        write_bytes_atomically(folder / f"{name}.png", figure)
        print(f"{question.__doc__}\n\n{table}")
    write_figures(summary(pd.read_csv(folder / "grid.csv")), folder, "grid")
