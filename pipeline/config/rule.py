"""An aggregation rule as a config names it, the same in ``compare``, ``aggregate``, ``simulate`` and ``audit``."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from truthful_rlhf.aggregation import AGGREGATORS, LabeledCampaign, label_campaign
from truthful_rlhf.aggregation.auditing.design import AuditDesign
from truthful_rlhf.aggregation.base import Aggregator, BoolArray, FloatArray, IntArray, Key
from truthful_rlhf.aggregation.labeling import Piece, ReportTable, SoftLabelKind
from truthful_rlhf.aggregation.rules import check_options, draws_from_a_secret, moves_by_steps, simulated_rule
from truthful_rlhf.pipeline.config.loading import Section
from truthful_rlhf.pipeline.config.training import NAME, SoftLabelLoss

TRUTH = "truth"
OWN = "or an import path such as my_pkg.rules:MyRule"


class Rule(Section):
    """Which rule, with which options; a name alone stands for the rule with its defaults."""

    name: str = Field(description=f"one of {', '.join(AGGREGATORS)}, {OWN}")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the rule, such as eta: 0.3")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        self._check()
        return self

    def _check(self) -> None:
        """Raise ``ValueError`` if there is no such rule; the message names the nearest valid rule and option."""
        check_options(self.name, self.n_initial_weights or 2, self.options)

    @property
    def n_initial_weights(self) -> int | None:
        """How many labelers the option ``initial_weights`` is for, if it is given."""
        given = self.options.get("initial_weights")
        return len(given) if isinstance(given, list) else None

    @property
    def title(self) -> str:
        """The name, with the options if there are any."""
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self._plain_name}({options})" if options else self._plain_name

    @property
    def _plain_name(self) -> str:
        return self.name.replace(":", ".")  # Windows has no colons in names of files

    def make(self, n_labelers: int, seed: int = 0) -> Aggregator:
        """Return a fresh aggregator, as labelers know the rule.

        Args:
            n_labelers: N >= 1.
            seed: of its lotteries and of its secret, for simulations (``aggregation.rules.simulated_rule``).
        """
        return simulated_rule(self.name, self.options, seed)(n_labelers)

    def sample_weights(self, design: AuditDesign | None, known: BoolArray) -> FloatArray | None:
        """Return what each outcome counts for to this rule, shape ``(T,)``; None: all alike.

        Args:
            design: with which chance pairs were audited; None: uniformly.
            known: pairs whose outcome the rule sees, shape ``(T,)``.
        """
        if design is None:
            return None
        return design.step_fractions(known) if moves_by_steps(self.name) else design.estimate_weights(known)


class LabelingRule(Rule):
    """An aggregation rule, and which of its soft labels."""

    per_topic: bool = Field(False, description="one mechanism per topic of the prompts")
    labels: SoftLabelKind = Field(
        "final",
        description="online: q_t, stated before the pair's outcome is known; final: all pairs"
        " re-aggregated with the last weights, audited pairs labeled with their outcome; reweighted: audited pairs"
        " re-aggregated as well (an outcome is one noisy draw, and has moved the weights); recalibrated: these, with"
        " their log-odds times one factor fitted to the outcomes; stacked: a step from online_weighted's weights to"
        " labels, fitted to the outcomes, audited pairs labeled with theirs",
    )

    def _check(self) -> None:
        super()._check()
        if self.labels == "stacked" and self.name != "online_weighted":
            raise ValueError(f"labels: stacked is a step from the weights of online_weighted, not of {self.name}")

    def label(
        self,
        reports: FloatArray | ReportTable,
        outcomes: FloatArray,
        topics: Sequence[Hashable] | None = None,
        *,
        pair_ids: Sequence[Key] | None = None,
        audit_design: AuditDesign | None = None,
        seed: int = 0,
        keep_weights: bool = True,
        watch: Callable[[Piece], None] | None = None,
        outcome_after: IntArray | None = None,
        secret: bytes | None = None,
    ) -> LabeledCampaign:
        """Aggregate a campaign by this rule; arguments as in ``aggregation.label_campaign``.

        Args:
            reports: shape ``(T, N)``, or a table of them.
            outcomes: shape ``(T,)``, NaN where not revealed.
            topics: length T; read if the rule is ``per_topic``.
            pair_ids: length T.
            audit_design: with which chance each audited pair was drawn; None: uniformly.
            seed: of the rule's own lottery.
            keep_weights: False leaves the weights of the rounds out.
            watch: is shown every piece of the campaign.
            outcome_after: how many rounds had been stated when each outcome arrived, shape ``(T,)``.
            secret: of the campaign, for a rule that draws its labels.
        """
        drawn = secret is not None and draws_from_a_secret(self.name, self.options)
        return label_campaign(
            reports,
            outcomes,
            self.name,
            self.labels,
            pair_ids=pair_ids,
            **({} if audit_design is None else audit_design.arguments()),
            topics=topics if self.per_topic else None,
            seed=seed,
            keep_weights=keep_weights,
            watch=watch,
            outcome_after=outcome_after,
            **self.options,
            **({"secret": secret} if drawn else {}),
        )


class RuleSection(LabelingRule):
    """An aggregation rule, and how the policy is trained on its soft labels."""

    name: str = Field(description=f"one of {', '.join(AGGREGATORS)}, {TRUTH}, {OWN}")
    audit_rate: float | None = Field(
        None, ge=0, le=1, description="share of the pairs that is audited for this rule, if not that of all rules"
    )
    loss: SoftLabelLoss | None = Field(
        None, description="what trains on this rule's labels in place of the method's own loss, such as hard or robust"
    )
    called: str | None = Field(None, pattern=NAME, description="name in tables and folders; default: rule and options")

    def _check(self) -> None:
        if self.name != TRUTH:
            super()._check()
        elif self.model_fields_set - {"name", "labels"}:
            raise ValueError("the truth has no options: it is the reference of all rules")

    @property
    def title(self) -> str:
        """Return a name that tells this rule from the config's others, and is a valid folder name."""
        if self.called:
            return self.called
        parts = [self._plain_name, *(f"{key}={value}" for key, value in sorted(self.options.items()))]
        parts += ["per_topic"] if self.per_topic else []
        parts += [self.labels] if self.labels in ("reweighted", "recalibrated") else []
        parts += [f"audit_rate={self.audit_rate}"] if self.audit_rate is not None else []
        parts += [self.loss] if self.loss else []
        return " ".join(parts).replace("/", "_")
