"""Batch models of crowd-kit behind the two methods: Dawid-Skene, GLAD and MACE.

They fit one model to all the votes of a campaign at once. Votes are hard: a report above 1/2 is a vote for A, below for
B, exactly 1/2 none. crowd-kit's Dawid-Skene takes revealed outcomes (``true_labels``): audited pairs count with their
outcome in every step of its expectation maximisation. GLAD and MACE take none: they **see no outcomes**. They judge
labelers by their agreement with each other, so they believe a majority that errs together. The class attribute
``sees_outcomes`` tells the two sorts apart.

``run_online`` fits the given rounds and returns crowd-kit's own posteriors; the "weights before each round" are those
of the fit, the same in every round. The posterior of an audited pair comes from a fit without the outcomes of its fold
(``aggregation.auditing.folds``): with them it would be its own outcome. ``predict_one`` judges a new round with the
fitted labelers (naive Bayes): before any fit it is the share of votes for A. ``learn_one`` checks its arguments and
learns nothing.

Audits whose chance depended on the votes need no weights here: the model conditions on all votes, audited or not.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.auditing.folds import held_out_labels
from truthful_rlhf.aggregation.base import (
    NOTHING_KNOWN,
    FloatArray,
    Key,
    OnlineRun,
    check_outcome,
    check_range,
    check_round,
    uniform,
)
from truthful_rlhf.aggregation.extras import explained
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.aggregation.rules.majority import Majority

_SURE = 1e-9
"""Estimated chances are kept this far from 0 and 1, so that one labeler cannot outvote everybody by infinity."""


@contextmanager
def global_generators_restored() -> Iterator[None]:
    """Put numpy's and Python's global generators back into the caller's state, whatever a peer does to them."""
    legacy, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(legacy)  # noqa: NPY002
        random.setstate(python)


class BatchRule(ABC):
    """One crowd-kit model, fitted to a whole campaign.

    Attributes:
        weights_: each labeler's informativeness |P(vote A | A better) - P(vote A | B better)|, scaled to sum 1; equal
            before a fit and for labelers that say nothing.
        vote_chances_: P(vote A | B better) and P(vote A | A better) of each labeler, shape ``(N, 2)``; None before a
            fit; 1/2 for labelers without votes.
    """

    sees_outcomes: ClassVar[bool] = False
    """Whether revealed outcomes enter the fit."""
    votes_only: ClassVar[bool] = True
    """Reports on the same side of 1/2 are the same to it: a search of misreports need not fit them again."""

    def __init__(self, n_labelers: int, n_iter: int = 100) -> None:
        """Take a panel of ``n_labelers`` >= 1; the model makes at most ``n_iter`` EM iterations."""
        self.n_labelers = n_labelers
        self.weights_ = uniform(n_labelers)
        if not isinstance(n_iter, int) or n_iter < 1:
            raise ValueError(f"n_iter must be >= 1, got {n_iter!r}")
        self.n_iter = n_iter
        self.vote_chances_: FloatArray | None = None
        self.prior_ = 0.5

    @abstractmethod
    def _fit(self, votes: Any, true_labels: Any) -> tuple[Any, dict[int, tuple[float, float]], float]:
        """Fit a ``(task, worker, label)`` table.

        Args:
            votes: the table; labels are 1 for A, 0 for B.
            true_labels: revealed outcomes of tasks with votes, a series indexed by task.

        Returns:
            crowd-kit's posteriors (a frame indexed by task), each labeler's (P(vote A | B better), P(vote A | A
            better)), and the prior P(A better).
        """

    def run(
        self,
        reports: FloatArray,
        outcomes: FloatArray,
        keep_weights: bool,
        keys: Iterable[Key] | None = None,
        sample_weights: ArrayLike | None = None,
    ) -> OnlineRun:
        """Fit all rounds; audited pairs get their posterior from a fit without their fold's outcomes."""
        check_range(reports)
        soft_labels = self.fit(reports, outcomes)
        if self.sees_outcomes:
            fresh = type(self)(self.n_labelers, self.n_iter)
            held_out = held_out_labels(lambda revealed: fresh.fit(reports, revealed), outcomes)
            soft_labels = np.where(np.isnan(outcomes), soft_labels, held_out)
        return OnlineRun(soft_labels, np.broadcast_to(self.weights_, reports.shape))

    def fit(self, reports: FloatArray, outcomes: FloatArray) -> FloatArray:
        """Fit all rounds and return the posteriors P(A better), shape ``(T,)``; pairs without a vote get 0.5.

        Those of audited pairs have seen the outcome where ``sees_outcomes``: they are no forecasts.

        Args:
            reports: checked, shape ``(T, N)``.
            outcomes: checked, shape ``(T,)``, NaN where not revealed.
        """
        import pandas as pd

        soft_labels = np.full(len(reports), NOTHING_KNOWN)
        voted = ~np.isnan(reports) & (reports != 0.5)
        tasks, workers = np.nonzero(voted)
        if len(tasks):
            votes = pd.DataFrame({"task": tasks, "worker": workers, "label": (reports[voted] > 0.5).astype(np.int64)})
            revealed = voted.any(axis=1) & ~np.isnan(outcomes)
            true_labels = pd.Series(outcomes[revealed].astype(np.int64), index=np.flatnonzero(revealed))
            with global_generators_restored():
                posteriors, chances, self.prior_ = self._fit(votes, true_labels)
            # a label that nobody ever voted for has no column: its probability is zero
            for_a = posteriors[1] if 1 in posteriors else 0.0 * posteriors[0]
            soft_labels[for_a.index.to_numpy()] = np.clip(for_a.to_numpy(), 0.0, 1.0)
            self._keep(chances)
        return soft_labels

    def _keep(self, chances: dict[int, tuple[float, float]]) -> None:
        self.vote_chances_ = np.full((self.n_labelers, 2), 0.5)
        for labeler, pair in chances.items():
            self.vote_chances_[labeler] = np.clip(pair, _SURE, 1.0 - _SURE)
        informative = np.abs(self.vote_chances_[:, 1] - self.vote_chances_[:, 0])
        total = informative.sum()
        self.weights_ = informative / total if total > 0.0 else uniform(self.n_labelers)

    def predict_many(self, reports: FloatArray, keys: Iterable[Key] | None = None) -> FloatArray:
        """Return P(A better) of every round from the fitted labelers, shape ``(T,)``; vote shares before any fit."""
        if self.vote_chances_ is None:
            return Majority(self.n_labelers).predict_many(reports)
        for_b, for_a = self.vote_chances_.T
        prior = np.clip(self.prior_, _SURE, 1.0 - _SURE)
        log_odds = np.where(reports > 0.5, 1.0, 0.0) @ np.log(for_a / for_b)
        log_odds += np.where(reports < 0.5, 1.0, 0.0) @ np.log((1.0 - for_a) / (1.0 - for_b))
        voted = ((reports > 0.5) | (reports < 0.5)).any(axis=1)
        posterior = sigmoid(log_odds + np.log(prior / (1.0 - prior)))
        return np.where(voted, posterior, NOTHING_KNOWN)

    def predict_one(self, reports: FloatArray, key: Key | None = None) -> float:
        """Return P(A better) for one round of reports, shape ``(N,)``; 0.5 without a vote."""
        return float(self.predict_many(check_round(reports, self.n_labelers)[None])[0])

    def learn_one(self, reports: FloatArray, outcome: float, sample_weight: float = 1.0) -> None:
        """Check the round and learn nothing: a batch model is fitted by ``run_online``.

        Args:
            reports: one round, shape ``(N,)``.
            outcome: 1 A better, 0 B better, NaN not revealed.
            sample_weight: not read.
        """
        check_round(reports, self.n_labelers)
        check_outcome(outcome)


class DawidSkeneRule(BatchRule):
    """Dawid and Skene (1979): a confusion matrix per labeler, by expectation maximisation.

    Audited pairs count with their outcome. Where all votes of a campaign are for one side, outcomes are not used:
    crowd-kit's table of posteriors then has no column for the other.
    """

    extra: ClassVar[str | None] = "crowd"
    sees_outcomes: ClassVar[bool] = True

    def _fit(self, votes: Any, true_labels: Any) -> tuple[Any, dict[int, tuple[float, float]], float]:
        with explained("rule dawid_skene"):
            from crowdkit.aggregation import DawidSkene

        usable = len(true_labels) > 0 and votes["label"].nunique() == 2
        model = DawidSkene(n_iter=self.n_iter).fit(votes, true_labels if usable else None)
        errors = model.errors_.unstack("label", fill_value=0.0)  # columns (true label, vote)
        chances = {}
        for labeler, row in errors.iterrows():
            chances[int(labeler)] = (float(row.get((0, 1), 0.5)), float(row.get((1, 1), 0.5)))
        return model.probas_, chances, float(model.priors_.get(1, 0.0))


class GladRule(BatchRule):
    """GLAD, the model of Whitehill et al.: an ability per labeler and a difficulty per pair. It sees no outcomes.

    A new pair has the prior's mean difficulty (exp(beta) with beta = 1).
    """

    extra: ClassVar[str | None] = "crowd"

    def _fit(self, votes: Any, true_labels: Any) -> tuple[Any, dict[int, tuple[float, float]], float]:
        with explained("rule glad"):
            from crowdkit.aggregation import GLAD

        if votes["label"].nunique() < 2:  # crowd-kit's GLAD takes log(number of labels - 1)
            return _one_sided(votes)
        model = GLAD(n_iter=self.n_iter)
        with np.errstate(all="ignore"):
            model.fit(votes)
        chances = {}
        for labeler, alpha in model.alphas_.items():
            right = float(sigmoid(alpha * np.e))
            chances[int(labeler)] = (1.0 - right, right)
        return model.probas_, chances, 0.5


class MaceRule(BatchRule):
    """MACE (Hovy et al. 2013): a labeler knows the answer, or votes from a habit of its own. It sees no outcomes."""

    extra: ClassVar[str | None] = "crowd"

    def __init__(self, n_labelers: int, n_iter: int = 50) -> None:
        """Take a panel of ``n_labelers`` >= 1; the model makes ``n_iter`` iterations."""
        super().__init__(n_labelers, n_iter)

    def _fit(self, votes: Any, true_labels: Any) -> tuple[Any, dict[int, tuple[float, float]], float]:
        import pandas as pd

        with explained("rule mace"):
            from crowdkit.aggregation import MACE

        if votes["label"].nunique() < 2:
            return _one_sided(votes)
        # crowd-kit numbers labels and workers as they appear, but sums up their votes in sorted order: with any other
        # names than 0, 1, ... by appearance it gives one labeler's habit to another
        workers, labelers = pd.factorize(votes["worker"])
        labels, directions = pd.factorize(votes["label"])
        numbered = pd.DataFrame({"task": votes["task"], "worker": workers, "label": labels})
        # crowd-kit starts every restart from the same seed: more than one would repeat the same run
        model = MACE(n_restarts=1, n_iter=self.n_iter).fit(numbered)
        a_column = list(directions).index(1)
        chances = {}
        for labeler, (guessing, knowing), habits in zip(labelers, model.spamming_, model.thetas_, strict=True):
            habit = float(guessing * habits[a_column])
            chances[int(labeler)] = (habit, habit + float(knowing))
        return model.probas_.rename(columns=dict(enumerate(directions))), chances, 0.5


def _one_sided(votes: Any) -> tuple[Any, dict[int, tuple[float, float]], float]:
    """Return certainty for the only label that was ever voted for: there is nothing to fit."""
    import pandas as pd

    label = int(votes["label"].iloc[0])
    posteriors = pd.DataFrame({label: 1.0}, index=pd.Index(votes["task"].unique(), name="task"))
    return posteriors, {int(labeler): (0.0, 1.0) for labeler in votes["worker"].unique()}, float(label)
