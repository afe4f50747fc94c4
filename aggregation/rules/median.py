"""The median of the present reports, with 1/2 as a tie-break that nobody can move.

**Why not the mean of the two in the middle.** An even number of reports has two middle ones, l <= h. Their mean can be
moved by both: on .1, .4, .6, .9 it is .5, and the labeler whose view is .6 gets exactly .6 by reporting .8. The label
here is 1/2 clamped between l and h: the median of l, h and the phantom report 1/2, so that A and B may be swapped.

**Strategy-proof within the round (Moulin 1980, "On strategy-proofness and single peakedness": generalised medians).**
Leave out labeler i and let the other reports, sorted, be given. The label as a function of r_i alone is

    med(a, r_i, b),    a <= b fixed by the others:

with an even number of others a and b are the two in the middle of them; with an odd number, whose middle one m stands
between its neighbours m- and m+, a = 1/2 clamped between m- and m, and b = 1/2 clamped between m and m+. (In general:
each order statistic is a minimum of maxima of reports, so is the median of three of them, and such a function is a
clamp in every single variable.) Reporting the own peak p gives p itself if a <= p <= b. If p < a, every report gives at
least a, and p gives a, the nearest; above b alike. So between p and the label of any lie lies the label of the truth,
and no labeler with a single-peaked taste, whatever its peak, gains by a lie, for all reports of the others.

That is a statement about the label of *one round* and a taste for this label, for any panel of fixed weights. It says
nothing of coalitions, and nothing is learnt: against a biased majority the regret grows linearly.
"""

from __future__ import annotations

import numpy as np

from truthful_rlhf.aggregation.base import NOTHING_KNOWN, BoolArray, FloatArray
from truthful_rlhf.aggregation.rules.fixed import FixedRule


class Median(FixedRule):
    """Take the middle report of those present; 1/2 clamped between the two in the middle if their number is even.

    Examples:
        >>> Median(4).predict_one([0.9, 0.2, 0.7, float("nan")])
        0.7
        >>> Median(4).predict_one([0.9, 0.2, 0.7, 0.6]), Median(4).predict_one([0.9, 0.1, 0.4, 0.6])
        (0.6, 0.5)
    """

    def _aggregate(self, reports: FloatArray, present: BoolArray) -> FloatArray:
        ordered = np.sort(reports, axis=1)  # NaN goes last
        n_present = present.sum(axis=1)
        rows = np.arange(len(reports))
        low, high = ordered[rows, (n_present - 1) // 2], ordered[rows, n_present // 2]
        return np.minimum(np.maximum(NOTHING_KNOWN, low), high)
