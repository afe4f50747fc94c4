"""The stages of ``run`` and ``compare``, one condition after another.

Imports ``training``, ``labels``, ``models``, ``storage`` and ``config``.

Known elsewhere as: an experiment pipeline or workflow; a *condition* is an arm or cell, a *panel* a crowd.
"""
