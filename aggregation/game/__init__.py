"""The game that labelers play: beliefs, misreports, campaigns, best responses, equilibria, incentives.

Imports rules and campaigns.
"""
