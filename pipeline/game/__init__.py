"""The stages and reports of ``simulate`` and ``audit``.

Imports ``labels``, ``storage`` and ``config``.
"""
