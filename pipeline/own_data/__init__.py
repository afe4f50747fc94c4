"""Compare rules on people's own annotations, where no gold reward is known: experts' verdicts decide.

    annotations -> recorded pairs -> five folds of prompts (`experiment.folds`)
    per seed and fold: labels and policies of every rule (`experiment`) -> what they prefer on the held-out verdicts
    all of it -> accuracies, differences with their intervals, what was shown and what it would take -> report

Imports ``reports``, ``judge``, ``experiment`` and the rooms below them.

Known elsewhere as: off-policy or held-out evaluation of preference models, cross-fitting, cross-validation of
policies; a *verdict* is an expert annotation or a gold label.
"""
