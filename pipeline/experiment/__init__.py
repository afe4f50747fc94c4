"""The stages of ``run`` and ``compare``, one condition after another.

Imports ``training``, ``labels``, ``models``, ``storage`` and ``config``.
"""
