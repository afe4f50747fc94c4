"""Annotation files: read, understood, turned into one table, and seated as labelers.

Imports no other kind of labeler.
"""
