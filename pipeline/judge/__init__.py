"""Judge the pairs of a file with a jury of LLMs, without training: reports that ``aggregate`` reads.

Known elsewhere as: LLM-as-a-judge, autoraters, AI feedback, synthetic preference data.
"""
