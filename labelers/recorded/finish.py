"""From what was collected to the finished table: repeated judgments settled, rounds ordered, the reading written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from truthful_rlhf.aggregation.auditing.design import AuditDesign
from truthful_rlhf.aggregation.base import BoolArray, FloatArray, IntArray
from truthful_rlhf.labelers.recorded.annotations import Annotations
from truthful_rlhf.labelers.recorded.build import Parts
from truthful_rlhf.labelers.recorded.codes import Codebook
from truthful_rlhf.labelers.recorded.errors import AnnotationError, WayOn, ways_on
from truthful_rlhf.labelers.recorded.identity import aspect_columns, varying_columns
from truthful_rlhf.labelers.recorded.options import Duplicates
from truthful_rlhf.labelers.recorded.reading import Reading, example_pair, value_table

_FEW_GROUPS = 1_000
_FEW_REPORTS = 10
_FEW_CODES = 6


def finish(
    parts: Parts,
    format: str,
    duplicates: Duplicates,
    books: tuple[Codebook, Codebook],
    *,
    ignored: Sequence[str],
    left_out: int,
    notes: Sequence[str],
) -> Annotations:
    """Return the finished table, in round order.

    Args:
        parts: what was collected.
        format: the format that was read.
        duplicates: what to do when a labeler judged a pair twice.
        books: of the reports and of the outcomes.
        ignored: columns that were not read.
        left_out: records that ``only`` left out.
        notes: what was noticed while reading.

    Raises:
        AnnotationError: a labeler judged a pair twice, or nobody judged anything.
    """
    rounds = np.argsort(parts.pair_time, kind="stable")  # NaN last; all NaN keeps the file's order
    settled = _settle(parts, np.argsort(rounds), duplicates)
    kept, design = _judged(parts.name, settled.report), parts.audit_design
    pair, labeler, report = settled.pair[kept], settled.labeler[kept], settled.report[kept]
    texts = parts.texts.close()  # before the example is taken from them
    return Annotations(
        source=parts.name,
        format=format,
        pair_ids=[parts.pair_ids[k] for k in rounds],
        labeler_ids=parts.labeler_ids,
        start=np.concatenate([[0], np.cumsum(np.bincount(pair, minlength=len(rounds))[rounds])]),
        labeler=labeler,
        report=report,
        swapped=settled.swapped[kept],
        outcome=parts.outcome[rounds],
        audit_design=design and design.of(rounds),
        topic=[parts.topics[k] for k in rounds] if any(parts.topics) else None,
        texts=texts,
        has_texts=parts.has_texts,
        text_row=rounds,
        reading=Reading(
            source=parts.name,
            format=format,
            pairs=len(rounds),
            labelers=len(parts.labeler_ids),
            rows=len(parts.pair),
            reports=len(report),
            abstained=int((~kept).sum()),
            swapped=int((parts.swapped & ~np.isnan(parts.report)).sum()),
            replaced=settled.replaced,
            averaged=settled.averaged + parts.games,
            left_out=left_out,
            outcomes=int((~np.isnan(parts.outcome)).sum()),
            values=value_table(*(book for book in books if book.codes)),
            notes=(*notes, *_notes(parts, pair, labeler, report, books)),
            example=_example(parts),
            ignored_columns=tuple(ignored),
        ),
    )


def _judged(name: str, report: FloatArray) -> BoolArray:
    kept: BoolArray = ~np.isnan(report)
    if not kept.any():
        raise AnnotationError(f"{name}: every report is an abstention")
    return kept


class _Settled:
    """One report per labeler and pair, in round order, shape ``(K,)`` each; NaN where the labeler did not judge."""

    def __init__(self, pair: IntArray, labeler: IntArray, report: FloatArray, swapped: BoolArray) -> None:
        self.pair, self.labeler, self.report, self.swapped = pair, labeler, report, swapped
        self.replaced = self.averaged = 0


def _settle(parts: Parts, position: IntArray, duplicates: Duplicates) -> _Settled:
    """Keep one report per labeler and pair: an empty one never replaces a report."""
    time = np.where(np.isnan(parts.time), -np.inf, parts.time)
    order = np.lexsort((parts.row, time, parts.labeler, position[parts.pair]))
    pair, labeler, report = parts.pair[order], parts.labeler[order], parts.report[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (pair[1:] != pair[:-1]) | (labeler[1:] != labeler[:-1])
    if new.all():
        return _Settled(pair, labeler, report, parts.swapped[order])
    start = np.flatnonzero(new)
    valid = ~np.isnan(report)
    n_valid = np.add.reduceat(valid.astype(np.int64), start)
    if duplicates == "error" and (n_valid > 1).any():
        raise AnnotationError(_refuse_duplicates(parts, order, start, n_valid))
    last = np.maximum.reduceat(np.where(valid, np.arange(len(order)), -1), start)
    last = np.where(last < 0, start, last)
    settled = _Settled(pair[start], labeler[start], report[last], parts.swapped[order][last])
    several = n_valid > 1
    if duplicates == "mean":
        total = np.add.reduceat(np.where(valid, report, 0.0), start)
        settled.report = np.where(n_valid > 0, total / np.maximum(n_valid, 1), np.nan)
        settled.averaged = int(n_valid[several].sum())
        settled.swapped = np.logical_and.reduceat(parts.swapped[order], start)  # a mean of both orders has neither
    else:
        settled.replaced = int((n_valid[several] - 1).sum())
    return settled


def _refuse_duplicates(parts: Parts, order: IntArray, start: IntArray, n_valid: IntArray) -> str:
    """Return why repeated judgments are refused, and what they may be."""
    ends = np.append(start[1:], len(order))
    groups = [order[start[g] : ends[g]] for g in np.flatnonzero(n_valid > 1)[:_FEW_GROUPS]]
    first, second = sorted(groups[0][~np.isnan(parts.report[groups[0]])], key=lambda k: parts.row[k])[:2]
    n = int((n_valid - 1)[n_valid > 1].sum())
    text = (
        f"{parts.name}: row {parts.row[second]}: labeler {parts.labeler_ids[parts.labeler[first]]!r} already judged "
        f"pair {parts.pair_ids[parts.pair[first]]!r} in row {parts.row[first]} ({n} such reports in all)"
    )
    ways = []
    for column, values in aspect_columns(parts.unused, groups)[:2]:
        text += f"; the column {column!r} differs between them"
        ways += [WayOn(f"to keep one {column}", ["--only", f"{column}={value}"]) for value in list(values)[:6]]
        if not any(parts.topics):
            ways.append(WayOn(f"to keep every {column}, each as a topic of its own", ["--topic-column", column]))
    if any(len(set(parts.swapped[group].tolist())) > 1 for group in groups):
        text += "; the responses were shown in both orders"
    ways.append(WayOn("to take the mean of them", ["--duplicates", "mean"]))
    what = (
        "the latest by time" if not np.isnan(parts.time).all() else "the later one in the file (--order names a time)"
    )
    ways.append(WayOn(f"to keep {what}", ["--duplicates", "last"]))
    return text + ways_on(ways)


# ---- notes


def _notes(
    parts: Parts, pair: IntArray, labeler: IntArray, report: FloatArray, books: tuple[Codebook, Codebook]
) -> list[str]:
    notes = []
    if parts.same_texts:
        notes.append(
            f"the same prompt and responses stand under several ids {parts.same_texts:,} times "
            f"({parts.same_texts_example}); to recognise pairs by their texts: --pairs-by-text"
        )
    if parts.pairs_with_topics:
        notes.append(
            f"{parts.pairs_with_topics:,} pair ids stand with several topics: each of them is one pair per topic, so "
            f"there are {len(parts.pair_ids):,} pairs (for example {parts.topics_example})"
        )
    if len(parts.labeler_ids) > 1 and len(pair) > 1 and np.bincount(pair).max() < 2:
        notes.append(
            "no pair has two reports: nobody can be compared with anybody, and every label is one person's. If several "
            "people judged the same pairs, the pair_id column is not the one that tells pairs apart"
        )
    for book in books:
        option = "--vote" if book.kind == "report" else "--outcome-vote"
        notes += [f"{option} {code}=...: no row has that value" for code in book.unused]
    if parts.audit_design is not None:
        notes.append(_audit_note(parts.audit_design, ~np.isnan(parts.outcome)))
    notes += varying_columns(parts.unused, parts.pair, parts.labeler)
    return notes + below_chance(parts, pair, labeler, report, books)


def _audit_note(design: AuditDesign, known: BoolArray) -> str:
    chances = design.probability[~np.isnan(design.probability)]
    low, high = chances.min(), chances.max()
    no_floor = bool(np.isnan(design.floor[~np.isnan(design.probability) & known]).any())
    rest = int((known & np.isnan(design.probability)).sum())
    return (
        f"{len(chances):,} pairs have an audit_probability ({low:.3g} to {high:.3g}): what their outcomes say is"
        " weighted by its inverse"
        + f"; the other {rest:,} known outcomes count as drawn uniformly before" * (rest > 0)
        + "; without audit_floor truthful reports are the best ones only approximately" * no_floor
    )


def below_chance(
    parts: Parts, pair: IntArray, labeler: IntArray, report: FloatArray, books: tuple[Codebook, Codebook]
) -> list[str]:
    """Return a note if every labeler is on the wrong side of the outcomes more often than not.

    Args:
        parts: what was collected; its outcomes have shape ``(T,)``, NaN where not known.
        pair: pair of each report, shape ``(K,)``.
        labeler: labeler of each report, shape ``(K,)``.
        report: P(A is better) in [0, 1], shape ``(K,)``.
        books: of the reports and of the outcomes.
    """
    outcome = parts.outcome[pair]
    decided = ~np.isnan(outcome) & (report != 0.5)
    if decided.sum() < _FEW_REPORTS:
        return []
    right = (report[decided] > 0.5) == (outcome[decided] > 0.5)
    n = np.bincount(labeler[decided], minlength=len(parts.labeler_ids))
    hits = np.bincount(labeler[decided], right, minlength=len(parts.labeler_ids))
    if not (hits[n > 0] < 0.5 * n[n > 0]).all():
        return []
    ways = []
    for book, what in zip(books[::-1], ("outcomes", "reports"), strict=True):
        if arguments := _turned_codes(book):
            ways.append(WayOn(f"if the {what} are the wrong way round", arguments))
    return [
        f"every labeler is below chance on the outcomes (right on {int(hits.sum()):,} of {int(n.sum()):,} reports): "
        "one of the two columns seems to mean the other side" + ways_on(ways)
    ]


def _turned_codes(book: Codebook) -> list[str]:
    """Return options that give every code of a column the other side; empty if it holds more than a few votes."""
    option = "--vote" if book.kind == "report" else "--outcome-vote"
    votes = [code for code in book.codes.values() if not np.isnan(code.report)]
    others = {0.0: "A", 1.0: "B", 0.5: "tie"}
    if book.other_numbers is not None or len(votes) > _FEW_CODES or not {code.report for code in votes} <= set(others):
        return []
    turned = [code for code in votes if code.report != 0.5 or code.number is not None]
    return [part for code in turned for part in (option, f"{code.text}={others[code.report]}")]


def _example(parts: Parts) -> str:
    """Return the first report that takes a side, in words."""
    sided = np.flatnonzero(~np.isnan(parts.report) & (parts.report != 0.5))
    k = int(sided[0]) if len(sided) else int(np.flatnonzero(~np.isnan(parts.report))[0])
    pair = int(parts.pair[k])
    row = parts.texts.take([pair]).to_pylist()[0]
    shown = (row["prompt"], row["response_a"], row["response_b"])
    return example_pair(parts.labeler_ids[parts.labeler[k]], parts.pair_ids[pair], float(parts.report[k]), shown)
