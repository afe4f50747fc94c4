"""Audits: with which chance they were drawn and what each then counts for, how many more, and folds over them.

Imports statistics and labels. Rules and labels import the folds and the design only.

Known elsewhere as: gold questions, honeypots, control items; their chances are a sampling design's inclusion
probabilities.
"""
