"""An aggregation rule as a config names it, the same in ``compare``, ``aggregate``, ``simulate`` and ``audit``."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from truthful_rlhf.aggregation import AGGREGATORS, make_aggregator
from truthful_rlhf.aggregation.campaign import SoftLabelKind
from truthful_rlhf.pipeline.config.loading import Section
from truthful_rlhf.pipeline.config.training import NAME, SoftLabelLoss

TRUTH = "truth"


class RuleSection(Section):
    """An aggregation rule, and which of its soft labels train the policy."""

    name: str = Field(description=f"one of {', '.join(AGGREGATORS)}, or {TRUTH}")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the rule, such as eta: 0.3")
    per_topic: bool = Field(False, description="one mechanism per topic of the prompts")
    labels: SoftLabelKind = Field(
        "final",
        description="online: q_t, stated before the pair's outcome is known; final: all pairs"
        " re-aggregated with the last weights, audited pairs labeled with their outcome; reweighted: audited pairs"
        " re-aggregated as well (an outcome is one noisy draw, and has moved the weights); recalibrated: these, with"
        " their log-odds times one factor fitted to the outcomes",
    )
    audit_rate: float | None = Field(
        None, ge=0, le=1, description="share of the pairs that is audited for this rule, if not that of all rules"
    )
    loss: SoftLabelLoss | None = Field(
        None, description="what trains on this rule's labels in place of the method's own loss, such as hard or robust"
    )
    called: str | None = Field(None, pattern=NAME, description="name in tables and folders; default: rule and options")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _exists(self) -> RuleSection:
        if self.name != TRUTH:
            # names the nearest valid rule and option
            make_aggregator(self.name, self.n_initial_weights or 2, **self.options)
        elif self.model_fields_set - {"name", "labels"}:
            raise ValueError("the truth has no options: it is the reference of all rules")
        return self

    @property
    def n_initial_weights(self) -> int | None:
        """How many labelers the option ``initial_weights`` is for, if it is given."""
        given = self.options.get("initial_weights")
        return len(given) if isinstance(given, list) else None

    @property
    def title(self) -> str:
        """Return a name that tells this rule from the config's others, and is a valid folder name."""
        if self.called:
            return self.called
        parts = [self.name, *(f"{key}={value}" for key, value in sorted(self.options.items()))]
        parts += ["per_topic"] if self.per_topic else []
        parts += [self.labels] if self.labels in ("reweighted", "recalibrated") else []
        parts += [f"audit_rate={self.audit_rate}"] if self.audit_rate is not None else []
        parts += [self.loss] if self.loss else []
        return " ".join(parts).replace("/", "_")
