"""How reports become one probability: rules, the online mechanism, the game, incentives and statistics.

Imports numpy only; no rule knows where its reports came from or what its soft labels will train.
"""

from __future__ import annotations

from truthful_rlhf.aggregation.base import Aggregator
from truthful_rlhf.aggregation.calibration import recalibrate
from truthful_rlhf.aggregation.campaign import OnlineRun, final_labels, run_online
from truthful_rlhf.aggregation.hindsight import best_labeler, regret
from truthful_rlhf.aggregation.labeling import LabeledCampaign, label_campaign
from truthful_rlhf.aggregation.rules import AGGREGATORS, UnknownOptionError, make_aggregator
from truthful_rlhf.aggregation.rules.online_weighted import OnlineWeighted
from truthful_rlhf.aggregation.secret import input_secret

__all__ = [
    "AGGREGATORS",
    "Aggregator",
    "LabeledCampaign",
    "OnlineRun",
    "OnlineWeighted",
    "UnknownOptionError",
    "best_labeler",
    "final_labels",
    "input_secret",
    "label_campaign",
    "make_aggregator",
    "recalibrate",
    "regret",
    "run_online",
]
