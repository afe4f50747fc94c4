"""Reports to soft labels to the table that trains.

Imports ``aggregation``, ``storage`` and ``config``.
"""
