"""Read annotations: from a source and what the user says about it to the annotation table.

    records -> sample -> format -> rows -> values read and counted -> pairs and labelers numbered -> Annotations

Reports are an append-only log that is read once. Nothing is guessed about the side of a number: what a value was
taken to mean stands in `Annotations.reading`, and what is not understood is refused with all values and the options
that answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.recorded.annotations import Annotations
from truthful_rlhf.labelers.recorded.build import Builder, Parts
from truthful_rlhf.labelers.recorded.cells import parse_id
from truthful_rlhf.labelers.recorded.codes import Codebook
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.files.source import Batch, Progress, Source
from truthful_rlhf.labelers.recorded.finish import finish
from truthful_rlhf.labelers.recorded.formats import FORMATS, Importer, Sample
from truthful_rlhf.labelers.recorded.formats.long import lookup
from truthful_rlhf.labelers.recorded.identity import refuse_response_columns, response_columns
from truthful_rlhf.labelers.recorded.options import ROLES, Duplicates, ReadOptions
from truthful_rlhf.labelers.recorded.suggest import no_format, pair_ways, side_not_known, values_not_understood

__all__ = ["Annotations", "Duplicates", "read_annotations"]


def read_annotations(
    source: Any,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    votes: Mapping[Any, str] | None = None,
    outcome_votes: Mapping[Any, str] | None = None,
    scale: str | None = None,
    low: str | None = None,
    one_hot: Mapping[str, str] | None = None,
    only: Mapping[str, Any] | None = None,
    duplicates: Duplicates = "error",
    pairs_by_text: bool = False,
    progress: Progress | None = None,
) -> Annotations:
    """Read, check and code annotations; ``.reading`` of the result says what was understood.

    Args:
        source: see `labelers.recorded.files.source.Source`.
        format: a key of `labelers.recorded.formats.FORMATS`, or ``auto``.
        columns: canonical name (``pair_id``, ..., ``audit_probability``) -> name in the source. With ``round`` (a
            number or a time) pairs go in the order in which their last report arrived; otherwise they keep the file's
            order.
            A pair that stands with several values of ``topic`` becomes one pair per topic, called ``pair:topic``.
            A dotted name reaches into a nested list of judgments; ``report: "annotator*"`` reads one column per
            labeler.
        votes: code of the report column -> ``A``, ``B``, ``tie`` or ``none`` (did not judge).
        outcome_votes: code of the outcome column -> ``A``, ``B`` or ``none`` (not revealed).
        scale: ``LOW:HIGH`` of a graded scale; read by `labelers.recorded.codes.graded`.
        low: which response the low end of the scale prefers, ``A`` or ``B``.
        one_hot: ``A``, ``B`` and perhaps ``tie`` -> the column that holds 1 where that was chosen.
        only: column -> value: other records are left out; ``*`` keeps records in which the column is not empty.
        duplicates: when a labeler judged a pair twice: refuse, keep the last report (by time if there is one), or take
            the mean. An empty report never replaces another.
        pairs_by_text: recognise a pair by its prompt and its two responses, in either order, instead of by ``pair_id``
            (always so where the source has no pair ids).
        progress: told the bytes (files) or records (tables) read since the last call.

    Raises:
        AnnotationError: with the file, the row, the key and the nearest valid choice, or the options that answer.

    Examples:
        >>> rows = [{"pair_id": "p1", "labeler_id": who, "report": code} for who, code in (("ann", 1), ("bob", 2))]
        >>> annotations = read_annotations(rows, votes={1: "A", 2: "B"})
        >>> annotations.report.tolist()
        [1.0, 0.0]
        >>> print(annotations.reading)
        <table> (long format): 1 pairs, 2 labelers, 2 reports; 0 abstained, 0 shown in the other order, 0 replaced by \
a later one, 0 averaged, 0 left out.
          report 1: 1 rows, response A better
          report 2: 1 rows, response B better
        Example: ann on pair p1: A is better than B.
    """
    options = ReadOptions.make(
        format=format,
        columns=columns or {},
        votes=votes or {},
        outcome_votes=outcome_votes or {},
        scale=scale,
        low=low,
        one_hot=one_hot or {},
        only=only or {},
        duplicates=duplicates,
        pairs_by_text=pairs_by_text,
    )
    if format != "auto" and format not in FORMATS:
        raise AnnotationError(
            f"format {format!r}: not known{nearest(format, FORMATS)}; valid: auto, {', '.join(FORMATS)}"
        )
    with Source(source, progress) as opened:
        return _Reader(opened, options).read()


class _Reader:
    """One reading of one source."""

    def __init__(self, source: Source, options: ReadOptions) -> None:
        self.source, self.options, self.name = source, options, source.name
        self.notes: list[str] = []
        self.left_out = self.kept = 0
        self.only_found: set[str] = set()
        self.pair_per_topic = "topic" in options.columns  # a column that is only called topic says nothing of pairs
        self.seen: dict[str, None] = {}

    def read(self) -> Annotations:
        """Return the annotations."""
        batches = self.source.batches()
        first = next(batches, None)
        if first is None:
            raise AnnotationError(f"{self.name}: there are no reports in it")
        sample = Sample.of(self.name, [record for _, record in first])
        self.seen.update(dict.fromkeys(sample.keys))
        self._find_columns(sample)
        importer = self._importer(sample)
        if (found := self._by_column(sample, importer)) is not None:
            return self._finished(*found, sample)
        books = self._books(importer)
        builder = Builder(self.name, self.options.pairs_by_text, *books, self.options.columns, self.pair_per_topic)
        for batch in itertools.chain([first], batches):
            self.seen.update(dict.fromkeys(str(key) for _, record in batch for key in record))
            self._add(builder, self._kept(batch), importer)
        return self._finished(builder.parts(), importer, books, sample)

    def _by_column(
        self, sample: Sample, importer: Importer
    ) -> tuple[Parts, Importer, tuple[Codebook, Codebook]] | None:
        """Return what a plain table says, read by column, if it is one."""
        if not importer.plain or self.options.only or self.options.pairs_by_text:
            return None
        from truthful_rlhf.labelers.recorded.columnar import read_parts

        books = self._books(importer)
        names = {role: self._column(role) for role in ROLES}
        parts = read_parts(self.source, names, importer.used or set(), list(sample.keys), books)
        return None if parts is None else (parts, importer, books)

    def _column(self, role: str) -> str:
        return self.options.columns.get(role, role)

    # ---- what the source is

    def _find_columns(self, sample: Sample) -> None:
        """Find columns without regard to case, with a note."""
        lower = {key.lower(): key for key in sample.keys}
        columns = dict(self.options.columns)
        for role in ROLES:
            wanted = columns.get(role, role)
            found = lower.get(wanted.lower())
            if wanted not in sample.keys and found is not None and (role in columns or found not in columns.values()):
                columns[role] = found
                self.notes.append(f"no column {wanted!r}: read {found!r} for {role}, which differs in case only")
        self.options = self.options.model_copy(update={"columns": columns})

    def _importer(self, sample: Sample) -> Importer:
        options, name = self.options, self.options.format
        if name == "auto":
            name = detect_format(sample, options)
        if name == "long" and not any(self._column(role) in self.seen for role in ("pair_id", "response_a")):
            self._need_a_pair(sample)
        try:
            return FORMATS[name].make(sample, options)
        except ValueError as error:
            raise AnnotationError(f"{self.name}: row 1: {error}") from None
        except KeyError as error:
            key = str(error.args[0])
            raise AnnotationError(f"{self.name}: row 1: no {key!r}{nearest(key, sample.keys)}") from None
        except (TypeError, AttributeError, IndexError) as error:
            raise AnnotationError(f"{self.name}: row 1: not a {name} record ({error})") from None

    def _need_a_pair(self, sample: Sample) -> None:
        columns = [self._column(role) for role in ("pair_id", "response_a")]
        if not any("." in column and column not in sample.keys for column in columns):
            raise AnnotationError(
                f"{self.name}: row 1: a pair needs pair_id, or response_a and response_b (and a prompt)"
                + pair_ways(sample, self.options)
            )

    def _books(self, importer: Importer) -> tuple[Codebook, Codebook]:
        options = self.options
        scale = None
        if options.scale is not None:
            scale = (*options.scale_ends, -1.0 if options.low == "A" else 1.0)
        comma = self.source.decimal_comma
        reports = Codebook(importer.report_column, "report", options.votes, scale, comma)
        return reports, Codebook(importer.outcome_column, "outcome", options.outcome_votes, None, comma)

    # ---- rows

    def _kept(self, batch: Batch) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, record in batch:
            if all(self._matches(record, column, value) for column, value in self.options.only.items()):
                self.kept += 1
                yield number, record
            else:
                self.left_out += 1

    def _matches(self, record: dict[str, Any], column: str, wanted: str) -> bool:
        value = lookup(record, column)
        if column in record or value is not None:
            self.only_found.add(column)
        try:
            found = parse_id(value)
        except ValueError:
            return False
        return bool(found) if wanted == "*" else found == parse_id(wanted)

    def _add(self, builder: Builder, records: Iterable[tuple[int, dict[str, Any]]], importer: Importer) -> None:
        rows, used = importer.rows, importer.used
        for number, record in records:
            try:
                reports = 0
                for row in rows(record):
                    builder.add(number, row)
                    reports += 1
                if used is not None:
                    builder.remember_unused(record, used, reports)
            except KeyError as error:
                key = str(error.args[0])
                near = nearest(key, map(str, record))
                raise AnnotationError(f"{builder.name}: row {number}: no {key!r}{near}") from None
            except ValueError as error:
                raise AnnotationError(f"{builder.name}: row {number}: {error}") from None
            except (TypeError, AttributeError, IndexError) as error:  # a list where a dict should be, and so on
                raise AnnotationError(
                    f"{builder.name}: row {number}: not a {importer.format} record ({error})"
                ) from None

    # ---- checks at the end

    def _finished(
        self, parts: Parts, importer: Importer, books: tuple[Codebook, Codebook], sample: Sample
    ) -> Annotations:
        self._check_mapping(importer)
        if not len(parts.pair):
            why = f": --only left out all {self.left_out:,} records" if self.left_out else ""
            raise AnnotationError(f"{self.name}: there are no reports in it{why}")
        for book in books:
            if book.unknown:
                raise AnnotationError(self._first_unknown(parts, book) + values_not_understood(book, sample))
            if book.is_ambiguous:
                raise AnnotationError(f"{self.name}: {side_not_known(book, sample)}")
        self._check_responses(parts, importer)
        ignored = [] if importer.used is None else sorted(set(self.seen) - importer.used)
        return finish(
            parts,
            importer.format,
            self.options.duplicates,  # type: ignore[arg-type]  # checked when it was given
            books,
            ignored=ignored,
            left_out=self.left_out,
            notes=[*self.notes, *self.source.notes, *importer.notes],
        )

    def _check_responses(self, parts: Parts, importer: Importer) -> None:
        """Refuse a table whose responses stand in two columns that nobody mapped."""
        if importer.format not in ("long", "potato", "mturk") or self._column("response_a") in self.seen:
            return
        swapping = response_columns(parts.unused, parts.pair, parts.labeler_ids)
        if swapping is not None:
            has_prompt = self._column("prompt") in self.seen
            reason = refuse_response_columns(swapping, self._column("pair_id"), has_prompt)
            raise AnnotationError(f"{self.name}: {reason}")

    def _check_mapping(self, importer: Importer) -> None:
        """Refuse a mapping that points nowhere."""
        for column in self.options.only:
            if column not in self.only_found and self.left_out:
                raise AnnotationError(
                    f"{self.name}: no column {column!r} (for --only){nearest(column, self.seen)}; "
                    f"found: {_listed(self.seen)}"
                )
        for role, column in self.options.columns.items():
            head = column.partition(".")[0]
            there = column in self.seen or "*" in column or (head in self.seen and head != column)
            if not (there if not importer.maps else role in importer.columns.found):
                raise AnnotationError(
                    f"{self.name}: no column {column!r} (for {role}){nearest(column, self.seen)}; "
                    f"found: {_listed(self.seen)}"
                )

    def _first_unknown(self, parts: Parts, book: Codebook) -> str:
        code = book.unknown[0]
        k = int(parts.row.searchsorted(code.first_row))
        pair, labeler = parts.pair_ids[parts.pair[k]], parts.labeler_ids[parts.labeler[k]]
        who = f"labeler {labeler!r}, pair {pair!r}" if book.kind == "report" else f"pair {pair!r}"
        return f"{self.name}: row {code.first_row}: {book.kind} ({who}): {code.problem}"


def detect_format(sample: Sample, options: ReadOptions) -> str:
    """Return the format of a source from its first records, or raise naming the nearest columns.

    A table with the canonical columns is a long one whatever else it holds; then come the tools, then whatever the user
    has mapped as a long table.
    """
    tools = [name for name in FORMATS if name != "long"]
    if options.one_hot or "*" in options.columns.get("report", ""):
        tools = [name for name in tools if name in ("potato", "mturk")]
    order = ["long", *tools] if sample.has("labeler_id", "report") else [*tools, "long"]
    for name in order:
        if FORMATS[name].matches(sample, options):
            return name
    raise AnnotationError(f"{sample.name}: {no_format(sample, options, FORMATS)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names)))[:300]
