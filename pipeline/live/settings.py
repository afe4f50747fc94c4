"""What is fixed when a campaign begins, and who takes part."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from truthful_rlhf.aggregation.labeling import SoftLabelKind
from truthful_rlhf.aggregation.names import unknown
from truthful_rlhf.aggregation.rules import check_options
from truthful_rlhf.pipeline.config.loading import Section, load_section
from truthful_rlhf.pipeline.config.rule import LabelingRule
from truthful_rlhf.pipeline.storage.artifacts import write_text_atomically

SETTINGS = "campaign.yaml"
DATABASE = "campaign.sqlite"

Role = Literal["labeler", "expert", "owner"]


class CampaignError(ValueError):
    """What was asked for is not possible in this campaign; the message says why, and what to type."""


class Person(NamedTuple):
    """Somebody with a link."""

    id: str
    """The name, unique in the campaign."""
    role: Role


class CampaignSettings(Section):
    """What is fixed at ``campaign init``; changing it later would change labels that were stated."""

    rule: str = Field("online_weighted", description="the rule from reports to labels")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the rule, such as label: median")
    labels: SoftLabelKind = Field("final", description="which labels are exported")
    per_topic: bool = Field(False, description="one mechanism per topic of the pairs")
    reports_per_pair: int = Field(3, ge=1, le=1000, description="a pair closes when it has so many reports")
    audit_rate: float = Field(0.1, ge=0.0, le=1.0, description="chance that an expert is asked about a pair")
    max_labelers: int = Field(50, ge=1, le=10_000, description="the step schedule is that of so many labelers")
    stop_at: float | None = Field(
        None,
        gt=0.5,
        lt=1.0,
        description="close a pair with two reports whose mean is as certain as this, and ask up to twice as many"
        " about the others; the proof for the next weight then does not hold",
    )
    markdown: bool = Field(False, description="show prompts and responses as Markdown, not as they were typed")
    database: str | None = Field(None, description="URL of SQLAlchemy; by default SQLite in the campaign's folder")

    @model_validator(mode="after")
    def _rule_can_be_made(self) -> Self:
        if "secret" in self.options:
            raise ValueError("options: the secret is the campaign's own (secret.key), it cannot be given")
        self.labeling_rule()
        check_options(self.rule, self.max_labelers, self.options)
        return self

    @classmethod
    def make(cls, **given: Any) -> CampaignSettings:
        """Return settings, or raise `CampaignError` with everything that is wrong with them in one line."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
            raise CampaignError("; ".join(problems).replace("Value error, ", "").removeprefix(": ")) from None

    def labeling_rule(self) -> LabelingRule:
        """Return the rule as every other command knows it."""
        given = {"name": self.rule, "options": self.options, "per_topic": self.per_topic, "labels": self.labels}
        return LabelingRule.model_validate(given)

    def fixed(self) -> dict[str, Any]:
        """Return what the log remembers: everything but where it lies and how it looks."""
        return self.model_dump(mode="json", exclude={"database", "markdown"})

    def database_url(self, folder: Path) -> str:
        """Return the URL of the database, by default of a file in the campaign's folder."""
        return self.database or f"sqlite:///{(folder / DATABASE).resolve()}"

    def write(self, folder: Path) -> None:
        """Write ``campaign.yaml``, readable by its owner alone: the database's URL may have a password."""
        path = folder / SETTINGS
        head = "# Fixed when the campaign began, but for `database` (where the same log lies) and `markdown`.\n"
        write_text_atomically(path, head + yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))
        path.chmod(0o600)

    @classmethod
    def read(cls, folder: Path) -> CampaignSettings:
        """Read ``campaign.yaml``, or raise `CampaignError` where there is no campaign."""
        if not (folder / SETTINGS).is_file():
            raise CampaignError(
                f"{folder} is no campaign: it has no {SETTINGS}; begin one with"
                f" truthful-rlhf campaign init {folder} --pairs pairs.jsonl --labelers people.csv"
            )
        return load_section(str(folder / SETTINGS), [], cls)


def read_people(path: Path) -> list[Person]:
    """Read who takes part: a CSV file with the column ``name`` and perhaps ``role``.

    Args:
        path: one person a row; ``role`` is labeler (the default), expert or owner. A file without a header is a list
            of labelers.

    Raises:
        CampaignError: with the row.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    if not rows:
        raise CampaignError(f"{path}: nobody is in it; write one name a line")
    header = [cell.strip().lower() for cell in rows[0]]
    name = next((header.index(word) for word in ("name", "labeler_id", "labeler") if word in header), None)
    role = header.index("role") if "role" in header and name is not None else None
    people: list[Person] = []
    taken: set[str] = set()
    for number, row in enumerate(rows[0 if name is None else 1 :], start=1 if name is None else 2):
        cells = [cell.strip() for cell in row]
        found = cells[role].lower() if role is not None and role < len(cells) and cells[role] else "labeler"
        try:
            people.append(Person(cells[name or 0], checked_role(found)))
            check_people(people[-1:], taken)
        except CampaignError as error:
            raise CampaignError(f"{path}: row {number}: {error}") from None
    return people


def checked_role(text: str) -> Role:
    """Return a role by its name, or raise `CampaignError`."""
    if text not in get_args(Role):
        raise CampaignError(unknown("role", text, get_args(Role)))
    return text  # type: ignore[return-value]


def check_people(people: Iterable[Person], taken: set[str] | None = None) -> None:
    """Raise `CampaignError` for a name that is empty, not printable, or given twice; add the names to ``taken``."""
    taken = set() if taken is None else taken
    for person in people:
        name = person.id
        if not name or len(name) > 200 or not name.isprintable():
            raise CampaignError(f"the name {name!r:.80} is empty, too long or not printable")
        if name in taken:
            raise CampaignError(f"the name {name!r} stands twice: everybody needs a name of their own")
        taken.add(name)
