"""What a YAML may say: sections, defaults, errors that name the key.

Imports the names of ``aggregation``, ``labelers`` and ``reward_model``, and no other room of the pipeline.
"""
