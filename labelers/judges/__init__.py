"""LLM judges: local models and servers.

Imports the pairs and what labelers may know.
"""
