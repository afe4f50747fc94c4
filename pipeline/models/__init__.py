"""Load the policy and sample from it.

Imports ``storage`` and ``config``.
"""
