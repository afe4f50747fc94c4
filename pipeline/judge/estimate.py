"""What a jury will be asked, counted before it is asked."""

from __future__ import annotations

from collections.abc import Sequence

from truthful_rlhf.labelers.judges.ask import shown_responses
from truthful_rlhf.labelers.judges.prompt import both_orders, judge_messages
from truthful_rlhf.labelers.judges.usage import Estimate, estimated_tokens
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.judge.job import rows_of
from truthful_rlhf.pipeline.judge.jury import Juror


def estimate(juror: Juror, pairs: Pairs, waiting: Sequence[int]) -> Estimate:
    """Return what a judge will take for the pairs that it has not answered; no model is loaded.

    Args:
        juror: who will judge.
        pairs: all pairs.
        waiting: those to be judged.
    """
    batch = rows_of(pairs, waiting)
    if hasattr(juror.judge, "estimate"):
        found: Estimate = juror.judge.estimate(batch)
        return found
    if juror.spec.is_own:
        return Estimate(0, 0, 0, 0, 0, "own code", None)
    judge = juror.judge
    if judge.ask is None:
        shown = both_orders(batch)
        asked = [[m["content"] for m in judge_messages(judge.told.prompt, texts)] for texts in shown]
    else:
        asked = [[text] for texts in shown_responses(batch) for text in judge.ask.documents(judge.told, texts)]
    return Estimate(len(asked), 0, sum(map(estimated_tokens, asked)), 0, 0, "local", None)
