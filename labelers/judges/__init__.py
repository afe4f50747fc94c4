"""LLM judges: local models and servers.

Imports the pairs and what labelers may know.

Known elsewhere as: LLM-as-a-judge, AI feedback, RLAIF, pairwise autoraters.
"""
