"""Battles of two models: MT-Bench, Chatbot Arena, the pair files of LLM judges, AlpacaEval, crowd-kit's pairs.

In MT-Bench's public data each row holds the whole conversation and says in ``turn`` which turn was judged, so the
conversation is cut there. In arena logs ``turn`` is the number of turns, which cuts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from truthful_rlhf.labelers.recorded.cells import number_of
from truthful_rlhf.labelers.recorded.codes import Understood, word_report
from truthful_rlhf.labelers.recorded.errors import WayOn, ways_on
from truthful_rlhf.labelers.recorded.formats.base import Columns, Importer, Record, Row, Sample, named
from truthful_rlhf.labelers.recorded.formats.conversations import plain_text
from truthful_rlhf.labelers.recorded.options import EXTRA_ROLES, ReadOptions


def is_battle(sample: Sample, options: ReadOptions) -> bool:
    """Return whether these are battles with one verdict each."""
    return sample.has("model_a", "model_b", "winner")


def is_two_games(sample: Sample, options: ReadOptions) -> bool:
    """Return whether a judge saw each pair in both orders (``gpt-4_pair.jsonl`` of FastChat)."""
    return sample.has("model_1", "model_2", "g1_winner")


def is_arena_hard(sample: Sample, options: ReadOptions) -> bool:
    """Return whether these are the judgments of Arena-Hard: two games with scores such as ``A>>B``."""
    return sample.has("games", "model", "question_id") or sample.has("games", "model", "uid")


def is_alpaca(sample: Sample, options: ReadOptions) -> bool:
    """Return whether these are the annotations of AlpacaEval or AlpacaFarm."""
    return sample.has("output_1", "output_2", "preference")


def is_crowdkit(sample: Sample, options: ReadOptions) -> bool:
    """Return whether this is crowd-kit's table of labels or of comparisons."""
    return sample.has("worker", "label") and (sample.has("task") or sample.has("left", "right"))


def make_battles(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of MT-Bench and Chatbot Arena votes: the pair is the question, the turn and the models."""
    columns = Columns(options.columns)
    _need(sample, "model_a", "model_b")
    key = next((key for key in ("pair_id", "question_id", "id") if sample.has(key)), None)
    who = "judge" if sample.has("judge") else "labeler_id"
    _need_ids(sample, options, key)
    report = options.columns.get("report", "winner")

    def rows(record: Record) -> Iterator[Row]:
        a, b = record["model_a"], record["model_b"]
        turn = record.get("turn") or 1
        pair_id = record.get(key) if key else None
        if key == "question_id" and pair_id is not None:
            pair_id = f"{pair_id}-t{turn}-" + "-vs-".join(sorted((str(a), str(b))))
        prompt, answer_a, answer_b = None, a, b
        if record.get("conversation_a"):
            prompt, answer_a = _conversation(record["conversation_a"], turn)
            _, answer_b = _conversation(record["conversation_b"], turn)
        yield Row(
            columns.get("pair_id", record, default=pair_id),
            columns.get("prompt", record, default=prompt),
            columns.get("response_a", record, default=answer_a),
            columns.get("response_b", record, default=answer_b),
            columns.get("labeler_id", record, default=named(record.get(who))),
            _winner(columns.get("report", record, default=record.get("winner")), a, b),
            *columns.extras(record),
        )

    known = {"question_id", "turn", "model_a", "model_b", "winner", "judge", "conversation_a", "conversation_b"}
    used = known | {who} | ({key} if key else set()) | set(EXTRA_ROLES) | set(options.columns.values())
    return Importer("mtbench", rows, report, columns, options.columns.get("outcome", "outcome"), used)


def _need(sample: Sample, *keys: str) -> None:
    for key in keys:
        if not sample.has(key):
            raise KeyError(key)


def _need_ids(sample: Sample, options: ReadOptions, key: str | None) -> None:
    """Refuse battles that neither an id nor a conversation tells apart, and votes of nobody."""
    if key is None and not sample.has("conversation_a") and "pair_id" not in options.columns:
        unique = [k for k in sample.keys if _all_differ(sample, k)]
        ways = [WayOn("if this column tells the battles apart", ["--column", f"pair_id={k}"]) for k in unique]
        raise ValueError(
            "battles of two models without question_id and without conversations: all battles of the same two models "
            "would become one pair. Name a column that says which question it was" + ways_on(ways)
        )
    if not (sample.has("judge") or sample.has("labeler_id") or "labeler_id" in options.columns):
        likely = [k for k in sample.keys if any(w in k.lower() for w in ("session", "user", "annot", "voter", "judge"))]
        ways = [WayOn("if this column says who voted", ["--column", f"labeler_id={k}"]) for k in likely]
        raise ValueError("labeler_id is empty: there is no column 'judge'" + ways_on(ways))


def _all_differ(sample: Sample, key: str) -> bool:
    values = [str(record.get(key)) for record in sample.records]
    return len(values) > 1 and len(set(values)) == len(values) and key not in ("model_a", "model_b", "winner", "judge")


def make_two_games(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of judgments in both orders: the report is the mean of the two games."""
    columns = Columns(options.columns)

    def rows(record: Record) -> Iterator[Row]:
        a, b = record["model_1"], record["model_2"]
        turn = record.get("turn") or 1
        games = [record[key] for key in ("g1_winner", "g2_winner") if record.get(key) not in (None, "error", "")]
        values = [_game(winner, a, b) for winner in games]
        report = Understood(", ".join(map(str, games)), sum(values) / len(values)) if values else None
        pair_id = f"{record['question_id']}-t{turn}-" + "-vs-".join(sorted((str(a), str(b))))
        yield Row(
            columns.get("pair_id", record, default=pair_id),
            columns.get("prompt", record),
            columns.get("response_a", record, default=a),
            columns.get("response_b", record, default=b),
            columns.get("labeler_id", record, default=named(record.get("judge"))),
            report,
            *columns.extras(record),
            games=max(1, len(values)),
        )

    return Importer("mtbench_games", rows, "g1_winner/g2_winner", columns)


def make_arena_hard(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of Arena-Hard: the baseline is A in the first game and B in the second; the mean counts."""
    columns = Columns(options.columns)

    def rows(record: Record) -> Iterator[Row]:
        scores = [game.get("score") if isinstance(game, dict) else None for game in record["games"][:2]]
        words = [None if score is None else word_report(str(score)) for score in scores]
        for score, word in zip(scores, words, strict=True):
            if score is not None and word is None:
                raise ValueError(f"the score {score!r} is none of A>>B, A>B, A=B, B>A, B>>A")
        values = [w if game == 0 else 1.0 - w for game, w in enumerate(words) if w is not None]
        code = ", ".join(str(score) for score in scores)
        question, model = record.get("question_id", record.get("uid")), record["model"]
        yield Row(
            columns.get("pair_id", record, default=f"{question}-{model}"),
            columns.get("prompt", record),
            columns.get("response_a", record, default=record.get("baseline", "baseline")),
            columns.get("response_b", record, default=model),
            columns.get("labeler_id", record, default=named(record.get("judge"))),
            Understood(code, sum(values) / len(values)) if values else None,
            *columns.extras(record),
            games=max(1, len(values)),
        )

    return Importer("arena_hard", rows, "games", columns)


def _game(winner: Any, a: Any, b: Any) -> float:
    value = {"model_1": 1.0, "model_2": 0.0, "tie": 0.5, a: 1.0, b: 0.0}.get(winner)
    if value is None:
        raise ValueError(f"the winner {winner!r} is neither model_1, model_2, tie nor error")
    return value


def _winner(winner: Any, a: Any, b: Any) -> Any:
    """Return a verdict; it may name the model that won."""
    if isinstance(winner, str) and a != b and winner in (a, b) and word_report(winner) is None:
        return Understood("the name in model_a" if winner == a else "the name in model_b", float(winner == a))
    return winner


def make_alpaca(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of AlpacaEval's annotations.

    Its ``preference`` is defined there: 1 prefers ``output_1``, 2 prefers ``output_2``, numbers between are 1 +
    P(output_2 better), 1.5 (or 0 in older files) is a tie.
    """
    columns = Columns(options.columns)
    who = next((key for key in ("annotator", "annotator_index") if sample.has(key)), "annotator")

    def rows(record: Record) -> Iterator[Row]:
        yield Row(
            columns.get("pair_id", record),
            columns.get("prompt", record, default=record.get("instruction")),
            record["output_1"],
            record["output_2"],
            columns.get("labeler_id", record, default=record.get(who)),
            _alpaca_report(columns.get("report", record, default=record.get("preference"))),
            *columns.extras(record),
        )

    return Importer("alpaca_eval", rows, "preference", columns)


def _alpaca_report(value: Any) -> Any:
    number = number_of(value)
    if number is None or number != number:
        return value
    if number == 0.0:
        return Understood("0", 0.5)
    if not 1.0 <= number <= 2.0:
        raise ValueError(f"preference {number:g} is not between 1 (output_1 is better) and 2 (output_2 is better)")
    return Understood(f"{number:g}", 2.0 - number)


def make_crowdkit(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of crowd-kit's table: a task's label, or the winner of two items."""
    columns = Columns(options.columns)

    def rows(record: Record) -> Iterator[Row]:
        left, right, label = record.get("left"), record.get("right"), record["label"]
        task = record.get("task")
        if left is not None and right is not None:
            label = _item(label, left, right)
            if task is None:
                task = " | ".join(sorted((str(left), str(right))))
        yield Row(
            columns.get("pair_id", record, default=task),
            columns.get("prompt", record),
            columns.get("response_a", record, default=left),
            columns.get("response_b", record, default=right),
            columns.get("labeler_id", record, default=record["worker"]),
            columns.get("report", record, default=label),
            *columns.extras(record),
        )

    used = {"task", "worker", "label", "left", "right", *EXTRA_ROLES, *options.columns.values()}
    outcome = options.columns.get("outcome", "outcome")
    return Importer("crowdkit", rows, options.columns.get("report", "label"), columns, outcome, used)


def _item(label: Any, left: Any, right: Any) -> Any:
    """Return the report of a comparison whose label is one of the two items."""
    if label in (left, right):
        return Understood("the left item" if label == left else "the right item", float(label == left))
    if label in (None, "", "left", "right", "tie"):
        return label
    raise ValueError(f"label {label!r} is neither 'left' nor 'right' item: left is {left!r}, right is {right!r}")


def _conversation(turns: Any, length: int) -> tuple[str, str]:
    """Return the user's turns as one prompt, and the last answer, of a conversation cut after ``length`` turns."""
    asked: list[str] = []
    answers: list[str] = []
    for turn in turns:
        if turn["role"] == "user":
            if len(asked) == length:
                break
            asked.append(plain_text(turn["content"]))
        elif turn["role"] == "assistant":
            answers.append(plain_text(turn["content"]))
    if len(asked) == 1:
        return asked[0], answers[-1]
    return "\n\n".join(f"[turn {k}] {text}" for k, text in enumerate(asked, start=1)), answers[-1]
