"""From soft labels to a reward: gold rewards, the reward-model trainer and its calibration."""
