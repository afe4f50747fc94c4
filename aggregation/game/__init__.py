"""The game that labelers play: beliefs, misreports, campaigns, best responses, equilibria, incentives.

Imports rules and campaigns.

Known elsewhere as: mechanism design, incentive compatibility, empirical game theory. A *labeler* is a player or
agent; a *misreport* a deviation or lie; the *gain* of the best one is the epsilon of epsilon-incentive compatibility.
"""
