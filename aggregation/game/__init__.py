"""The game that labelers play: beliefs, populations, misreports, best responses, equilibria, incentives.

Imports rules and campaigns.
"""
