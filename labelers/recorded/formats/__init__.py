"""Turn the records of annotation formats into the rows of the annotation table.

| format | recognised by | report |
|---|---|---|
| ``long`` | ``labeler_id`` and ``report``, or a mapping of columns | `labelers.recorded.formats.long` |
| ``crowdkit`` | ``task, worker, label`` or ``worker, left, right, label`` | a word, or the winning item's name |
| ``mtbench`` | ``model_a, model_b, winner`` (MT-Bench, Chatbot Arena) | ``winner``: a side or a model's name |
| ``mtbench_games`` | ``model_1, model_2, g1_winner`` (pair files of LLM judges) | the mean of both games |
| ``arena_hard`` | ``games, model`` and a question | the mean of both games: ``A>>B``, ``A>B``, ... |
| ``alpaca_eval`` | ``output_1, output_2, preference`` | 1 .. 2, as AlpacaEval defines it |
| ``labelstudio`` | ``data`` and ``annotations`` (JSON export) | a pairwise, ranker or choices control |
| ``labelstudio_min`` | ``annotation_id, annotator, id`` (JSON_MIN and CSV exports) | the same |
| ``argilla`` | ``fields`` and ``responses``, or flattened ``<question>.responses`` | a label, rating or ranking |
| ``argilla1_hub`` | a list of ``user_id, value`` beside ``<question>-suggestion`` | the same |
| ``prodigy`` | ``options, accept, answer`` | the accepted option |
| ``potato``, ``mturk`` | ``user, instance_id``; ``HITId, WorkerId`` | a mapped column, or one column per option |
| ``ranking`` | a list of responses and a list of ranks or ratings | every pair of the list |
| ``chosen_rejected`` | ``chosen, rejected`` | the chosen one is better |

Importers only rearrange: what values mean is decided in `labelers.recorded.codes`, and the table is checked where it is
built. The order below is the order of detection: what the user has mapped as a long table comes first.
"""

from __future__ import annotations

from truthful_rlhf.labelers.recorded.formats import arena, argilla, labelstudio, long, platforms, rankings
from truthful_rlhf.labelers.recorded.formats.base import Columns, Format, Importer, Record, Row, Sample

__all__ = ["FORMATS", "Columns", "Format", "Importer", "Record", "Row", "Sample"]

FORMATS: dict[str, Format] = {
    "long": Format(long.matches, long.make),
    "crowdkit": Format(arena.is_crowdkit, arena.make_crowdkit),
    "mtbench": Format(arena.is_battle, arena.make_battles),
    "mtbench_games": Format(arena.is_two_games, arena.make_two_games),
    "arena_hard": Format(arena.is_arena_hard, arena.make_arena_hard),
    "alpaca_eval": Format(arena.is_alpaca, arena.make_alpaca),
    "labelstudio": Format(labelstudio.matches, labelstudio.make),
    "labelstudio_min": Format(labelstudio.matches_min, labelstudio.make_min),
    "argilla": Format(argilla.matches, argilla.make),
    "argilla1_hub": Format(argilla.is_hub_1, argilla.make_hub_1),
    "prodigy": Format(platforms.is_prodigy, platforms.make_prodigy),
    "potato": Format(platforms.is_potato, platforms.make_potato),
    "mturk": Format(platforms.is_mturk, platforms.make_mturk),
    "ranking": Format(rankings.is_list, rankings.make_list),
    "chosen_rejected": Format(rankings.is_chosen, rankings.make_chosen),
}
