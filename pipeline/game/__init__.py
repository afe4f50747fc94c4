"""The stages and reports of ``simulate`` and ``audit``.

Imports ``labels``, ``storage`` and ``config``.

Known elsewhere as: simulation of crowdsourcing campaigns, incentive-compatibility tests.
"""
