"""Reports to soft labels to the table that trains.

Imports ``aggregation``, ``storage`` and ``config``.

Known elsewhere as: soft or probabilistic preference labels, label smoothing with known probabilities.
"""
