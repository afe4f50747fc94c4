"""Soft labels to a policy: DPO, reward model, PPO, RLOO.

Imports ``models``, ``storage`` and ``config``.

Known elsewhere as: preference optimisation, RLHF fine-tuning, alignment training.
"""
