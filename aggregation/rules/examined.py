"""The examined rule: exactly truthful for every future round, because nobody's coin depends on anybody else's.

K secret lotteries, each with a debt F_i per labeler, all 0 at first. After every audited pair (outcome revealed)
lottery k draws ONE labeler J among all N, present or not, and tosses a coin that fails with probability (r_J - y)^2:

    F_J <- F_J + coin - 1/4    (coin: 1 failed, 0 held; nothing if J is away),
    pi^(k)_i  proportional to  exp(-eta_n N F_i),     eta_n = c sqrt(ln N / (N n)) after n audited pairs,  c = 4,

and the weights are the mean of pi^(k) over the lotteries. The label is ``drawn``: one lottery, secretly, then one
labeler from its pi^(k), renormalised over those present. (Computed as the quantile at a secret uniform point of the
reports, under the mean over k of the renormalised pi^(k): the same distribution, and by
``aggregation.rules.quantile_labels`` no report gains within the round for any point.)

**Truthful for every future round.** Objectives: (1) any sum with weights >= 0 of the own expected weight after each
round; (2) any such sum of -E (label - own view)^2, if the own view is the belief, under ``drawn``. Every horizon, N and
K, every adaptive strategy, also of one that is shown the lotteries' results so far. Needs: the own beliefs, the others'
reports and the outcomes of later rounds do not depend on this round's outcome or report; audits do not depend on the
own report (weights do not cure that here: later steps depend on the number of audits); one labeler deviates, not a
coalition.

Both objectives are means over the lotteries, in which label and weights are linear; so take one lottery, and let the
labeler be truthful from the next round on (true for the last round, and by induction backwards). Only if J = i does the
own report matter to the future, and then only through the own coin: nobody else is examined in this lottery. So the
continuation is V_held or V_failed, and neither depends on y. The expected continuation

    V_failed + (V_held - V_failed) (1 - E_y (r_i - y)^2)

is largest at the belief, whatever the two values are, as long as V_held >= V_failed. That holds: a smaller F_i raises
pi^(k)_i in every later round, pathwise, and lowers the others' in proportion; under (2) the payoff of a later round in
which i is present and truthful is -sum_(j != i) pi_j d_j with d_j >= 0, which rises, and where i is away its debt has
no effect, because the others' proportions do not depend on it (so absences are renormalised within each lottery). In
the present round (2) adds -pi_i (r_i - b)^2 + terms without r_i, largest at the belief b, too. With everybody's coin in
the same round y would tie the own coin to the others', V would depend on y, and the proof and the truth both fail.

Not covered: utilities that are no mean over lotteries (the chance that *both* of two lotteries succeed: at the belief
.7 the best report is 1); the mean or the median of the averaged weights as a label; tastes other than the belief beyond
the round; labelers who learn from one another.

**Absence.** E (coin - 1/4) = (r - b)^2 + b (1 - b) - 1/4 <= 0 at the belief: a truthful answer never adds debt in
expectation, an absence never takes any away. In *weight* that is not exact, because weight is not linear in debt: a
labeler in the lead that can hardly tell (belief .55) avoids a risk by staying away at chosen moments, and gains up to
1.6 % of its mean weight in the exact games of the tests. Without the -1/4 it gains 9 to 32 %.

**Regret** (all present; T audited pairs; in expectation over lotteries and, for ``drawn``, points; outcomes and reports
may be chosen by an adversary who sees the past). Against every fixed labeler the summed squared loss is at most

    (1/c + c/8 + c Lmax) sqrt(N T ln N) + 9/4 B,  B = ceil(c^2 N ln N / 16);   c = 4: 3/4 + 4 Lmax in the brackets,

larger, with Lmax <= 1 the largest weighted loss of a round (``examined_regret_bound``). Proof for one lottery (the mean
over lotteries and ``drawn`` are linear; the weighted mean's loss is smaller by convexity). lhat_t = N (coin - 1/4) e_J
has the expectation l_t - 1/4 in every entry, and E sum_i pi_i lhat_i^2 = N sum_i pi_i (9/16 l_i + 1/16 (1 - l_i)) = N
(1/16 + Lbar_t / 2). Write h_t for the step of round t, Phi_t(h) = -(1/h) ln mean_i exp(-h Lhat_it), m_t = Phi_t(h_t) -
Phi_(t-1)(h_t). From t = B + 1 on h_t <= 4/N, so h_t lhat >= -1 and exp(-x) <= 1 - x + x^2 for x >= -1 gives

    pi_t . lhat_t - m_t <= h_t sum_i pi_ti lhat_ti^2.

Phi_t falls as h rises and steps fall, so sum_(t > B) m_t <= Phi_T(h_T) - Phi_B(h_(B+1)) <= Lhat_iT + ln N / h_T -
Phi_B(h_(B+1)). With s = h_(B+1) <= 4/N, Jensen and the same inequality,

    E(-Phi_B(s)) <= (1/s) ln mean_i prod_(t <= B) exp(s (1/4 - l_it) + s^2 N (1/16 + l_it / 2)) <= 3/2 B,

while E Lhat_iB = sum_(t <= B) l_it - B/4 and the loss of the first B rounds is at most B: together B - B/4 + 3/2 B =
9/4 B. The rest is ln N / h_T <= sqrt(N T ln N) / c and N (1/16 + Lmax/2) sum h_t with sum h_t <= 2 c sqrt(T ln N / N).
Steps capped at 4/N need no 9/4 B and learn more slowly until n = N ln N: not done. With absences nothing is claimed
about regret.

**Price.** Each audited pair examines one labeler in N per lottery, so the rule learns slower than ``online_weighted``:
against six contrarians of ten it needs two to five times the audits for the same accuracy of the weights, and ``drawn``
costs accuracy beside (``python -m benchmarks examined``). K only reduces variance: the expected weights are the same
for every K.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.auditing.folds import check_step_fractions
from truthful_rlhf.aggregation.base import (
    FloatArray,
    IntArray,
    Key,
    OnlineRun,
    check_outcome,
    check_range,
    check_round,
    uniform,
)
from truthful_rlhf.aggregation.rules.quantile_labels import Label, StatedLabel
from truthful_rlhf.aggregation.secret import Secret

STEP = 4.0
"""c: the constant of the step."""
_BLOCK_DRAWS = 1 << 20  # 8 MB of uniform numbers at a time
_WORDS = 4  # numbers that Philox gives per count


def examined_regret_bound(n_labelers: int, n_updates: int, largest_loss: float = 1.0) -> float:
    """Return the proven bound on the expected regret after ``n_updates`` audited pairs with all present.

    Args:
        n_labelers: N >= 1.
        n_updates: T >= 0.
        largest_loss: Lmax, the largest weighted loss of a round, in [0, 1].

    Examples:
        >>> round(examined_regret_bound(10, 100_000) / (10 * 100_000 * math.log(10)) ** 0.5, 2)
        4.79
    """
    scale = n_labelers * math.log(n_labelers)
    leading = (1.0 / STEP + STEP / 8.0 + STEP * largest_loss) * math.sqrt(scale * n_updates)
    return min(leading + 2.25 * math.ceil(STEP**2 * scale / 16.0), float(n_updates))


class Examined:
    """Examine one labeler per audited pair and lottery; follow a labeler drawn by its record.

    Attributes:
        debts_: 4 F of every lottery and labeler, shape ``(K, N)``, whole numbers.
        weights_: mean of pi^(k) over the lotteries, shape ``(N,)``, on the simplex.
        n_updates_: number n of audited pairs that somebody judged.

    Examples:
        >>> rule = Examined(2, secret=b"only the owner has this")
        >>> for _ in range(50):
        ...     rule.learn_one([1.0, 0.0], outcome=1)
        >>> rule.predict_one([0.8, 0.3], key="pair-7")
        0.8
    """

    sees_outcomes: ClassVar[bool] = True
    """Whether revealed outcomes change what the rule states."""
    always_secret: ClassVar[bool] = True
    """Whether every label of the rule needs a secret."""

    def __init__(
        self, n_labelers: int, label: Label = "drawn", lotteries: int = 200, secret: bytes | None = None
    ) -> None:
        """Start without debts.

        Args:
            n_labelers: N >= 1.
            label: ``drawn``, for which the module's theorem holds, or ``mean``, ``median``, ``quantile`` under the
                averaged weights, for which nothing is claimed beyond ``aggregation.rules.quantile_labels``.
            lotteries: K >= 1.
            secret: bytes that no labeler has, e.g. ``secrets.token_bytes(32)``: it draws the lotteries and the label's
                points. It is not saved with the rule: ``set_secret`` after reading one.

        Raises:
            ValueError: no secret, or an option out of range.
        """
        self.n_labelers = n_labelers
        self.weights_ = uniform(n_labelers)
        if isinstance(lotteries, bool) or not isinstance(lotteries, int) or lotteries < 1:
            raise ValueError(f"lotteries must be a whole number >= 1, got {lotteries!r}")
        if secret is None:
            raise ValueError(
                "examined draws its lotteries from a secret that no labeler has: secret=secrets.token_bytes(32), kept "
                "by the owner"
            )
        self.label = label
        self.lotteries = lotteries
        self._label = StatedLabel(label, secret)
        self._secret = Secret(secret)
        self.debts_: IntArray = np.zeros((lotteries, n_labelers), dtype=np.int64)
        self.n_updates_ = 0

    def set_secret(self, secret: bytes) -> None:
        """Hand the secret over again: a rule that was saved and read comes back without it."""
        self._label = StatedLabel(self.label, secret)
        self._secret = Secret(secret)

    def predict_one(self, reports: FloatArray, key: Key | None = None) -> float:
        """Return the label of the present reports, shape ``(N,)``; 0.5 if nobody judged."""
        keys = None if key is None else [key]
        return float(self.predict_many(check_round(reports, self.n_labelers)[None], keys)[0])

    def predict_many(self, reports: FloatArray, keys: Iterable[Key] | None = None) -> FloatArray:
        """Return P(A better) of every round under the present debts, shape ``(T,)``."""
        unknown, points = np.full(len(reports), np.nan), self._label.points(keys, len(reports))
        return self._rounds(reports, unknown, points, False, self.debts_, np.ones(len(reports)))[0]

    def learn_one(self, reports: FloatArray, outcome: float, sample_weight: float = 1.0) -> None:
        """Examine one labeler per lottery; a NaN outcome, or a round that nobody judged, changes nothing.

        Args:
            reports: one round, shape ``(N,)``.
            outcome: 1 A better, 0 B better, NaN not revealed.
            sample_weight: chance of each lottery to hold an examination, in (0, 1].
        """
        row, outcomes = check_round(reports, self.n_labelers)[None], np.array([check_outcome(outcome)])
        self._learn(row, outcomes, None, False, check_step_fractions([sample_weight], np.zeros(1)))

    def run(
        self,
        reports: FloatArray,
        outcomes: FloatArray,
        keep_weights: bool,
        keys: Iterable[Key] | None = None,
        sample_weights: ArrayLike | None = None,
    ) -> OnlineRun:
        """Run a whole campaign in compiled code; leaves the same state as the loop over rounds."""
        check_range(reports)
        fractions = check_step_fractions(sample_weights, outcomes)
        return self._learn(reports, outcomes, self._label.points(keys, len(reports)), keep_weights, fractions)

    def _learn(
        self,
        reports: FloatArray,
        outcomes: FloatArray,
        points: FloatArray | None,
        keep_weights: bool,
        fractions: FloatArray,
    ) -> OnlineRun:
        debts = self.debts_.copy()
        ran = self._rounds(reports, outcomes, points, keep_weights, debts, fractions)
        soft_labels, history, weights, n_updates = ran
        self.debts_, self.weights_, self.n_updates_ = debts, weights, n_updates
        return OnlineRun(soft_labels, history)

    def _rounds(
        self,
        reports: FloatArray,
        outcomes: FloatArray,
        points: FloatArray | None,
        keep_weights: bool,
        debts: IntArray,
        fractions: FloatArray,
    ) -> tuple[FloatArray, FloatArray, FloatArray, int]:
        """Run rounds block by block and change ``debts``; without ``points`` no label is stated.

        An update of part w of the way: every lottery holds its examination with chance w, and its number u, if it is
        below w, is u / w to it.

        Returns soft labels, the weights before each round, those after the last, and the number of updates so far.
        """
        from truthful_rlhf.aggregation.rules.compiled.examined import examined_rounds

        soft_labels = np.empty(0 if points is None else len(reports))
        history = np.empty(reports.shape if keep_weights else (0, self.n_labelers))
        weights, n_updates = self.weights_.copy(), self.n_updates_
        size = max(1, _BLOCK_DRAWS // self.lotteries)
        for first in range(0, len(reports), size):
            rows = slice(first, first + size)
            judged = ~np.isnan(outcomes[rows]) & ~np.isnan(reports[rows]).all(axis=1)
            draws = self._draws(n_updates, int(judged.sum())) / fractions[rows][judged, None]
            ours = np.empty(0) if points is None or not len(points) else points[rows]
            n_updates = examined_rounds(
                np.ascontiguousarray(reports[rows]),
                outcomes[rows],
                ours,
                draws,
                debts,
                n_updates,
                soft_labels[rows],
                history[rows],
                weights,
            )
        return soft_labels, history, weights, n_updates

    def _draws(self, first: int, count: int) -> FloatArray:
        """Return the uniform numbers of the lotteries at ``count`` updates from number ``first``, ``(count, K)``.

        Philox in counter mode under a key from the secret: any update's numbers can be drawn again on their own.
        Raw words, because numpy keeps those the same from version to version.
        """
        if count == 0:
            return np.empty((0, self.lotteries))
        counts = -(-self.lotteries // _WORDS)
        stream = np.random.Philox(key=int.from_bytes(self._secret.digests("lotteries", [""])[0][:16], "big"))
        words = stream.advance(first * counts).random_raw(count * counts * _WORDS)
        draws: FloatArray = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return np.ascontiguousarray(draws.reshape(count, -1)[:, : self.lotteries])
