"""How reports become one probability: rules, the online mechanism, the game, incentives and statistics.

Imports numpy only; no rule knows where its reports came from or what its soft labels will train.
"""
