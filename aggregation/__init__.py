"""How reports become one probability: rules, the online mechanism, the game, incentives and statistics.

Imports numpy only; no rule knows where its reports came from or what its soft labels will train.

Known elsewhere as: crowd-sourced label aggregation, truth inference, forecast aggregation, prediction with expert
advice. A *rule* (aggregator) is an expert-advice algorithm or an opinion pool; a *soft label* a preference
probability; a *report* a forecast; an *audited pair* a gold question, honeypot or control; how a rule pays accuracy
is a proper scoring rule, and the game a wagering mechanism.
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
