"""Annotation files: read, understood, turned into one table, and seated as labelers.

Imports no other kind of labeler.

Known elsewhere as: annotation import, preference data sets, crowd labels.
"""
