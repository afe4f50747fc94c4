"""One response at a time: what a score is, that no place is preferred, and how answer words are told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.labelers.judges.test_local import PAIRS, chooser, swapped  # noqa: F401
from tests.precision import EXACT
from truthful_rlhf.labelers import LocalJudge
from truthful_rlhf.labelers.judges.ask import (
    ASKS,
    CONTENT_FREE,
    Rate,
    Score,
    Told,
    calibrated,
    document,
    make_ask,
    spread_scale,
)
from truthful_rlhf.labelers.judges.local import LetterChooser
from truthful_rlhf.labelers.personas import persona_pool

TOLD = Told("You read texts.", ("a wonderful surprise.",), ("awful.",), (("happy",), ("terrible",)))


def judge(chooser: LetterChooser, ask: str, **settings: Any) -> LocalJudge:  # noqa: F811
    return LocalJudge((chooser.model, chooser.tokenizer), TOLD, ask=ask, **settings)


def score_by_definition(chooser: LetterChooser, text: str, words: tuple[str, str]) -> float:  # noqa: F811
    """Return the calibrated log-odds of two words after one text: no batch, no padding, no cache."""
    ask, tokenizer = Score(), chooser.tokenizer

    def shares(texts: tuple[str, ...]) -> np.ndarray:
        ids = tokenizer.encode(document(ask, TOLD, texts))
        with torch.no_grad():
            chances = chooser.model(torch.tensor([ids])).logits[0, -1].softmax(-1).numpy()
        firsts = [
            {tokenizer.encode(before + form)[0] for before in ("", " ") for form in (word, word.capitalize())}
            for word in words
        ]
        sums = [sum(chances[token] for token in mine - other) for mine, other in (firsts, firsts[::-1])]
        return np.array(sums) / sum(sums)

    empty = np.array([shares(texts) for texts in (("", text) for text in CONTENT_FREE)])
    prompt, response = text.split("|")
    liked, disliked = calibrated(shares((prompt, response))[None], empty)[0]
    return float(np.log(liked / disliked))


def test_a_belief_is_the_sigmoid_of_the_scaled_difference_of_scores(chooser: LetterChooser) -> None:  # noqa: F811
    answers = judge(chooser, "score", scale=0.7, batch_size=4).answer(PAIRS)
    for k, prompt in enumerate(PAIRS.prompt):
        responses = (PAIRS.response_a[k], PAIRS.response_b[k])
        a, b = (score_by_definition(chooser, f"{prompt}|{text}", ("happy", "terrible")) for text in responses)
        assert answers.belief[k] == pytest.approx(1.0 / (1.0 + np.exp(-0.7 * (a - b))), abs=EXACT)
    assert np.isnan(answers.a_first).all(), "no place is shown first"
    assert ((answers.mass > 0.0) & (answers.mass <= 1.0)).all()


def test_several_words_are_the_mean_of_their_log_odds(chooser: LetterChooser) -> None:  # noqa: F811
    told = replace(TOLD, words=(("happy", "great"), ("terrible", "slow")))
    belief = LocalJudge((chooser.model, chooser.tokenizer), told, ask="score", scale=0.7).belief(PAIRS)
    reader = LetterChooser(chooser.model, chooser.tokenizer).reader
    for k, prompt in enumerate(PAIRS.prompt):
        texts = [document(Score(), told, (prompt, text)) for text in (PAIRS.response_a[k], PAIRS.response_b[k])]
        happy, great, terrible, slow = reader.probabilities(texts, ("happy", "great", "terrible", "slow"), 1, "").T
        scores = (np.log(happy / terrible) + np.log(great / slow)) / 2.0
        assert belief[k] == pytest.approx(1.0 / (1.0 + np.exp(-0.7 * (scores[0] - scores[1]))), abs=EXACT)


def test_opposites_that_the_tokens_do_not_tell_apart_are_left_out(chooser: LetterChooser) -> None:  # noqa: F811
    reader = LetterChooser(chooser.model, chooser.tokenizer).reader
    told = replace(TOLD, words=(("good", "good", "happy"), ("bad", "awful", "slow")))
    assert reader.with_words_told_apart(told).words == (("good", "happy"), ("bad", "slow"))
    assert reader.with_words_told_apart(TOLD).words == TOLD.words


@pytest.mark.parametrize("name", ["noisy", "careless", "specialist", "first_seen"])
def test_the_pool_scores_with_a_small_vocabulary(name: str, chooser: LetterChooser) -> None:  # noqa: F811
    told = persona_pool()[name].told()
    belief = LocalJudge((chooser.model, chooser.tokenizer), told, ask="score").belief(PAIRS)
    assert ((belief > 0.0) & (belief < 1.0)).all()


def log_likelihood(chooser: LetterChooser, text: str) -> float:  # noqa: F811
    """Return the log-likelihood of a text's tokens after its first, by the definition."""
    ids = torch.tensor([chooser.tokenizer.encode(text)])
    with torch.no_grad():
        logs = chooser.model(ids).logits[0].log_softmax(-1)
    return float(logs[:-1].gather(1, ids[0, 1:, None]).sum())


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_channel_is_the_likelihood_ratio_of_the_response(chooser: LetterChooser, batch_size: int) -> None:  # noqa: F811
    answers = judge(chooser, "channel", scale=0.3, batch_size=batch_size).answer(PAIRS)
    for k, prompt in enumerate(PAIRS.prompt):
        liked, disliked = (
            [
                log_likelihood(chooser, f"- {example}\n- {prompt}{text}")
                for text in (PAIRS.response_a[k], PAIRS.response_b[k])
            ]
            for example in (TOLD.likes[0], TOLD.dislikes[0])
        )
        difference = liked[0] - disliked[0] - (liked[1] - disliked[1])
        assert answers.belief[k] == pytest.approx(1.0 / (1.0 + np.exp(-0.3 * difference)), abs=EXACT)
    assert np.isnan(answers.mass).all(), "no word is read as an answer"


def test_a_channel_without_examples_is_refused(chooser: LetterChooser) -> None:  # noqa: F811
    with pytest.raises(ValueError, match="likes and dislikes"):
        LocalJudge((chooser.model, chooser.tokenizer), ask="channel").belief(PAIRS)


def test_a_persona_with_a_question_of_its_own_is_told_no_more() -> None:
    told = replace(TOLD, question='"{text}" I thought: how')
    text = document(Score(), told, ("The film was", " great {text}"))
    shown = ['"awful." I thought: how terrible', '"a wonderful surprise." I thought: how happy']
    assert text == "\n\n".join([*shown, '"The film was great {text}" I thought: how'])


@pytest.mark.parametrize("ask", ["score", "rate", "channel"])
def test_swapping_a_and_b_turns_the_belief(ask: str, chooser: LetterChooser) -> None:  # noqa: F811
    one = judge(chooser, ask)
    belief = one.belief(PAIRS)
    np.testing.assert_allclose(one.belief(swapped(PAIRS)), 1.0 - belief, rtol=0, atol=EXACT)
    assert np.ptp(belief) > 0.01, "or it would hold of a judge without opinions"


def test_examples_and_words_change_the_judge(chooser: LetterChooser) -> None:  # noqa: F811
    turned = Told(TOLD.prompt, TOLD.dislikes, TOLD.likes, TOLD.words)
    beliefs = [
        LocalJudge((chooser.model, chooser.tokenizer), told, ask="score").belief(PAIRS) for told in (TOLD, turned)
    ]
    assert not np.allclose(*beliefs)


def test_a_number_that_another_one_begins_is_told_apart(chooser: LetterChooser) -> None:  # noqa: F811
    """P(10) = P(1) P(0 | 1) where 10 is two tokens: the probabilities of all numbers are those of single steps."""
    reader = LetterChooser(chooser.model, chooser.tokenizer).reader
    assert len(chooser.tokenizer.encode("10", add_special_tokens=False)) > 1
    words = Rate().answers(TOLD)
    text = document(Rate(), TOLD, ("The film was", " great"))
    row = reader.probabilities([text], words, 4, "")[0]
    ids = chooser.tokenizer.encode(text)
    one, nought = (chooser.tokenizer.encode(digit, add_special_tokens=False)[0] for digit in "10")
    with torch.no_grad():
        then = chooser.model(torch.tensor([[*ids, one]])).logits[0, -1].softmax(-1)[nought]
    together = row[0] + row[9]
    assert row[9] == pytest.approx(together * float(then), rel=1e-6)
    assert row.sum() <= 1.0 + EXACT


def test_little_mass_is_no_answer(chooser: LetterChooser, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    from truthful_rlhf.labelers.judges import pointwise

    monkeypatch.setattr(pointwise, "LEAST_MASS", 1.1)
    answers = judge(chooser, "score").answer(PAIRS)
    assert np.isnan(answers.belief).all()
    assert "have less than" in answers.note[0]


def test_an_unknown_way_is_named_and_answers_that_are_one_are_refused(chooser: LetterChooser) -> None:  # noqa: F811
    with pytest.raises(ValueError, match="compare"):
        make_ask("compair")
    with pytest.raises(ValueError, match="does not tell the answer"):
        LocalJudge((chooser.model, chooser.tokenizer), Told(words=(("good",), ("good",))), ask="score").belief(PAIRS)


def test_calibration_leaves_no_prior_and_the_scale_is_the_spread() -> None:
    prior = np.array([[0.8, 0.2], [0.6, 0.4]])
    np.testing.assert_allclose(calibrated(prior.mean(axis=0)[None], prior), 0.5, rtol=0, atol=1e-15)
    assert spread_scale(np.full(10_000, 4.0)) == pytest.approx(0.25, rel=1e-2)
    assert spread_scale(np.empty(0)) == 1.0
    assert make_ask("compare") is None
    assert set(ASKS) == {"score", "rate", "channel"}


def test_a_base_model_is_asked_for_the_letter_that_it_would_write(tiny_model_folder: Path) -> None:
    """Without a chat template the answer goes on after "Answer:", so the letters have a space before them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    tokenizer.chat_template = None
    plain = LetterChooser(AutoModelForCausalLM.from_pretrained(tiny_model_folder), tokenizer)
    (prompt, ((a, *_), (b, *_))), _ = plain._encode(
        "", (PAIRS.prompt[0], PAIRS.response_a[0], PAIRS.response_b[0]), 2000
    )
    text = tokenizer.decode(prompt)
    assert (text + tokenizer.decode([a])).endswith("Answer: A")
    assert (text + tokenizer.decode([b])).endswith("Answer: B")


def test_what_all_prompts_begin_with_is_read_once_and_changes_nothing(
    chooser: LetterChooser,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from truthful_rlhf.labelers.judges import local

    seen: list[int] = []
    read_ahead = LetterChooser._read_ahead

    def noted(self: LetterChooser, shared: tuple[int, ...]) -> Any:
        seen.append(len(shared))
        return read_ahead(self, shared)

    monkeypatch.setattr(LetterChooser, "_read_ahead", noted)
    shared = judge(chooser, "score", batch_size=2).answer(PAIRS)
    assert seen
    assert min(seen) >= local._WORTH_SHARING
    monkeypatch.setattr(local, "_WORTH_SHARING", 10_000)
    alone = judge(chooser, "score", batch_size=2).answer(PAIRS)
    assert len(seen) == 1, "the control reads all of every prompt"
    np.testing.assert_allclose(shared.belief, alone.belief, rtol=0, atol=EXACT)
