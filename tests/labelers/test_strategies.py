"""Every strategy keeps the contract and its declared traits; each does what its definition says by hand."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import ClassVar

import numpy as np
import pytest

from truthful_rlhf.labelers import STRATEGIES, Pairs, ReportContext
from truthful_rlhf.labelers.context import PublicProfile, StrategyContext
from truthful_rlhf.labelers.strategies import Strategy, make_strategy

BELIEFS = np.array([0.9, 0.2, np.nan, 0.5, 0.7])
N = len(BELIEFS)


def make_situation(**changes: object) -> StrategyContext:
    topic, audited = ["x", "y", "x", "x", "y"], np.array([True, False, True, True, False])
    pairs = Pairs([f"p{k}" for k in range(N)], [""] * N, ["a"] * N, ["b"] * N, topic=topic, audited=audited)
    situation = StrategyContext(
        pairs=pairs,
        context=ReportContext(rule="mean", weights=np.array([0.25, 0.75])),
        rng=np.random.default_rng(0),
        allies=np.column_stack([BELIEFS, np.full(N, 0.4)]),
        impartial=np.full(N, 0.35),
        profiles=(PublicProfile(gold=-1.0, noise=1.0), PublicProfile(noise=1.0)),
        position=0,
    )
    return replace(situation, **changes)  # type: ignore[arg-type]


def _changed(trait: str, situation: StrategyContext) -> StrategyContext:
    """Return the situation with one thing changed: the one that the trait allows the reports to depend on."""
    context, pairs = situation.context, situation.pairs
    changes: dict[str, dict[str, object]] = {
        "coordinated": {"allies": situation.allies[:, :1]},
        "randomised": {"rng": np.random.default_rng(1)},
        "uses_rounds": {"context": replace(context, first_round=1000)},
        "uses_weights": {"context": replace(context, weights=np.array([0.9, 0.1]))},
        "uses_topics": {"pairs": replace(pairs, topic=["y", "x", "y", "y", "x"])},
        "uses_audits": {"pairs": replace(pairs, audited=np.array([False, True, True, True, True]))},
        "uses_impartial": {"impartial": np.full(N, 0.8)},
        "uses_rule": {"context": replace(context, rule="online_weighted")},
    }
    return replace(situation, **{"rng": np.random.default_rng(0), **changes[trait]})  # type: ignore[arg-type]


class StrategyContract:
    """What every strategy's tests inherit: set ``strategy``, and add what its definition says."""

    strategy: ClassVar[Strategy]

    def report(self, **changes: object) -> np.ndarray:
        return self.strategy.report(BELIEFS.copy(), make_situation(**changes))

    def test_reports_are_probabilities_where_it_judges(self) -> None:
        reports = self.report()
        assert reports.shape == BELIEFS.shape
        np.testing.assert_array_equal(np.isnan(reports), np.isnan(BELIEFS))
        assert np.nanmin(reports) >= 0.0
        assert np.nanmax(reports) <= 1.0

    def test_leaves_its_input_alone(self) -> None:
        beliefs = BELIEFS.copy()
        self.strategy.report(beliefs, make_situation())
        np.testing.assert_array_equal(beliefs, BELIEFS)

    def test_depends_on_exactly_what_it_declares(self) -> None:
        """Nothing but a declared trait may move a report; a declared one moves it with weights published or without."""
        without_weights = replace(make_situation().context, weights=None)
        declared = asdict(self.strategy.traits)
        declared.pop("honest")
        for trait, may_depend in declared.items():
            moved = False
            for changes in ({}, {"context": without_weights}):
                before = self.report(**changes)
                after = self.strategy.report(BELIEFS, _changed(trait, make_situation(**changes)))
                moved |= not np.array_equal(before, after, equal_nan=True)
            assert moved == may_depend, trait

    def test_honest_exactly_if_declared(self) -> None:
        same = np.array_equal(self.report(), BELIEFS, equal_nan=True)
        assert same or not self.strategy.traits.honest


class TestTruthful(StrategyContract):
    strategy = make_strategy("truthful")

    def test_reports_beliefs(self) -> None:
        np.testing.assert_array_equal(self.report(), BELIEFS)


class TestExaggerate(StrategyContract):
    strategy = make_strategy("exaggerate", scale=2.0)

    def test_squares_the_odds(self) -> None:
        # odds 9:1 -> 81:1, 1:4 -> 1:16, 1:1 -> 1:1, 7:3 -> 49:9
        np.testing.assert_allclose(self.report(), [81 / 82, 1 / 17, np.nan, 0.5, 49 / 58], rtol=1e-12)


class TestFlip(StrategyContract):
    strategy = make_strategy("flip")

    def test_reports_the_complement(self) -> None:
        np.testing.assert_allclose(self.report(), [0.1, 0.8, np.nan, 0.5, 0.3])


class TestRandom(StrategyContract):
    strategy = make_strategy("random")

    def test_does_not_look(self) -> None:
        other = self.strategy.report(1.0 - BELIEFS, make_situation())
        np.testing.assert_array_equal(self.report(), other)

    def test_is_uniform(self) -> None:
        draws = self.strategy.report(np.full(4000, 0.9), make_situation())
        assert abs(np.mean(draws) - 0.5) < 4 * (1 / 12 / 4000) ** 0.5
        assert abs(np.mean(draws < 0.1) - 0.1) < 4 * (0.09 / 4000) ** 0.5


class TestConstant(StrategyContract):
    strategy = make_strategy("constant", value=0.8)

    def test_reports_the_value(self) -> None:
        np.testing.assert_array_equal(self.report(), [0.8, 0.8, np.nan, 0.8, 0.8])


class TestCollude(StrategyContract):
    strategy = make_strategy("collude", scale=2.0)

    def test_the_target_is_the_mean_log_odds_of_the_bloc(self) -> None:
        # odds 9 and 2/3: mean log-odds = log(6) / 2, times 2 = log(6); odds 1/4 and 2/3: 1/6; 1 and 2/3; 7/3 and 2/3
        odds = np.array([6.0, 1 / 6, np.nan, 2 / 3, 14 / 9])
        np.testing.assert_allclose(self.report(), odds / (1 + odds), rtol=1e-12)

    def test_all_members_report_the_same(self) -> None:
        ally = np.full(N, 0.4)
        reports = self.strategy.report(ally, make_situation(position=1))
        judged = ~np.isnan(BELIEFS)
        np.testing.assert_array_equal(reports[judged], self.report()[judged])
        assert reports[2] == pytest.approx(4 / 13)  # alone on the pair that its ally does not judge: odds (2/3)^2


class TestSleeper(StrategyContract):
    strategy = make_strategy("sleeper", start=3)

    def test_is_honest_before_it_wakes(self) -> None:
        np.testing.assert_allclose(self.report(), [0.9, 0.2, np.nan, 0.5, 0.3])

    def test_counts_rounds_across_batches(self) -> None:
        later = replace(make_situation().context, first_round=2)
        np.testing.assert_allclose(self.report(context=later), [0.9, 0.8, np.nan, 0.5, 0.3])


class TestTopicTrigger(StrategyContract):
    strategy = make_strategy("topic_trigger", topic="y")

    def test_lies_on_its_topic_only(self) -> None:
        np.testing.assert_allclose(self.report(), [0.9, 0.8, np.nan, 0.5, 0.3])

    def test_several_topics(self) -> None:
        both = make_strategy("topic_trigger", topic=["x", "y"])
        np.testing.assert_allclose(both.report(BELIEFS.copy(), make_situation()), 1 - BELIEFS)

    def test_needs_topics(self) -> None:
        without = replace(make_situation().pairs, topic=None)
        with pytest.raises(ValueError, match=r"waits for topic 'y', but the pairs have no topics"):
            self.report(pairs=without)


class TestAuditAware(StrategyContract):
    strategy = make_strategy("audit_aware")

    def test_lies_where_nobody_checks(self) -> None:
        np.testing.assert_allclose(self.report(), [0.9, 0.8, np.nan, 0.5, 0.3])

    def test_needs_a_leak(self) -> None:
        without = replace(make_situation().pairs, audited=None)
        with pytest.raises(ValueError, match="nothing says which these are"):
            self.report(pairs=without)


class TestMimicThenExploit(StrategyContract):
    strategy = make_strategy("mimic_then_exploit", scale=1.0, threshold=1.5, start=3)

    def test_mimics_until_its_weight_is_worth_using(self) -> None:
        np.testing.assert_allclose(self.report(), [0.35, 0.35, np.nan, 0.35, 0.35])  # 0.25 < 1.5 / 2
        rich = replace(make_situation().context, weights=np.array([0.75, 0.25]))
        np.testing.assert_allclose(self.report(context=rich), BELIEFS)

    def test_goes_by_rounds_where_weights_are_not_published(self) -> None:
        blind = replace(make_situation().context, weights=None)
        np.testing.assert_allclose(self.report(context=blind), [0.35, 0.35, np.nan, 0.5, 0.7])


class TestBestResponse(StrategyContract):
    strategy = make_strategy("best_response")

    def test_exaggerates_against_the_mean(self) -> None:
        """One labeler of two with the opposite taste: the mean moves towards it the more it exaggerates."""
        reports = self.report()
        assert reports[0] > 0.95
        assert reports[1] < 0.05

    def test_is_truthful_against_the_median_of_likeminded_peers(self) -> None:
        """Negative control: against the median, exaggeration gains a labeler whose objective is taste nothing."""
        profiles = tuple(PublicProfile(noise=1.0) for _ in range(5))
        context = ReportContext(rule="median")
        np.testing.assert_allclose(self.report(profiles=profiles, context=context), BELIEFS, atol=0.02)

    def test_is_found_once_per_rule_and_panel(self) -> None:
        from truthful_rlhf.labelers import best_response

        best_response._search.cache_clear()
        self.report()
        self.report(impartial=np.full(N, 0.1))
        assert best_response._search.cache_info().misses == 1
        self.report(context=ReportContext(rule="median"))
        assert best_response._search.cache_info().misses == 2


class TestEquilibrium(StrategyContract):
    strategy = make_strategy("equilibrium")

    def test_exaggerates_against_the_mean(self) -> None:
        reports = self.report()
        assert reports[0] > 0.95
        assert reports[1] < 0.05

    def test_is_truthful_against_the_median_of_players_alike(self) -> None:
        """Negative control of the above: against the median of an odd panel the truth is an equilibrium."""
        profiles = tuple(PublicProfile(noise=1.0, objective="taste") for _ in range(5))
        context = ReportContext(rule="median")
        np.testing.assert_array_equal(self.report(profiles=profiles, context=context), BELIEFS)


def test_every_strategy_has_a_test() -> None:
    tested = {type(cls.strategy) for cls in StrategyContract.__subclasses__()}
    assert tested == set(STRATEGIES.values())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "exagerate"}, "did you mean 'exaggerate'"),
        ({"name": "exaggerate", "scal": 2}, "did you mean 'scale'"),
        ({"name": "exaggerate", "scale": -1}, "scale must be a number in"),
        ({"name": "exaggerate", "scale": "big"}, "scale must be a number"),
        ({"name": "exaggerate", "scale": float("nan")}, "scale must be a number"),
        ({"name": "constant", "value": 1.5}, r"value must be a number in \[0, 1\]"),
        ({"name": "topic_trigger", "topic": 3}, "topic must be a text or a list of texts: 3"),
        ({"name": "topic_trigger", "topic": ["x", 3]}, "topic must be a text or a list of texts"),
        ({"name": "topic_trigger"}, "needs the option 'topic'"),
        ({"name": "best_response", "objective": "fame"}, "objective must be one of influence, taste"),
        ({"name": "sleeper", "start": -1}, "start must be"),
    ],
)
def test_errors_name_the_nearest_choice(entry: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_strategy(**entry)  # type: ignore[arg-type]
