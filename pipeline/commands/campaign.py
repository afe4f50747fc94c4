"""``truthful-rlhf campaign``: people judge pairs while the weights learn."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from truthful_rlhf.pipeline.commands.aggregate import LabelsOption, OutOption, ResampleOption, RuleOptionsOption
from truthful_rlhf.pipeline.commands.annotation_options import ColumnOption, TopicOption, column_mapping, rule_options
from truthful_rlhf.pipeline.storage.console import clear_errors, console, print_table, shown

if TYPE_CHECKING:
    from truthful_rlhf.labelers.pairs import Pairs
    from truthful_rlhf.pipeline.live.campaign import Campaign, Link

app = typer.Typer(
    help="People judge pairs while the weights learn: a small server, its log, and the labels at any moment.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The campaign's folder.", show_default=False)]
KnownOption = Annotated[
    Path | None,
    typer.Option(help="Gold questions: a file with pair_id and outcome (1 or A: A is better; 0 or B)."),
]
UrlOption = Annotated[str, typer.Option(help="Address at which people reach the server, for their links.")]


@app.command()
def init(
    folder: FolderArgument,
    pairs: Annotated[str, typer.Option(help="Pairs that nobody has judged: any file that judge reads.")],
    labelers: Annotated[Path, typer.Option(help="CSV of names, one a line; a column role: labeler, expert or owner.")],
    audit_rate: Annotated[float, typer.Option(help="Chance that an expert is asked about a pair, in secret.")] = 0.1,
    reports_per_pair: Annotated[int, typer.Option(help="A pair closes when it has so many reports.")] = 3,
    rule: Annotated[str, typer.Option(help="The rule, as in aggregate.")] = "online_weighted",
    option: RuleOptionsOption = None,
    labels: LabelsOption = "final",
    per_topic: Annotated[bool, typer.Option("--per-topic", help="Keep one set of weights per topic.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Show texts as Markdown, not as they were typed.")
    ] = False,
    max_labelers: Annotated[
        int, typer.Option(help="Most labelers that will ever take part: the steps are fixed for so many.")
    ] = 50,
    known_outcomes: KnownOption = None,
    stop_at: Annotated[
        float | None,
        typer.Option(
            help="Close a pair with two reports or more whose mean is as certain as this (such as 0.9), and ask up to"
            " twice --reports-per-pair about the others. A report then decides whether others are asked for, so that"
            " the proof for the expected next weight does not hold."
        ),
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="postgresql+psycopg://USER@HOST/NAME; by default SQLite in DIR.")
    ] = None,
    url: UrlOption = "http://127.0.0.1:8000",
    topic_column: TopicOption = None,
    column: ColumnOption = None,
) -> None:
    """Begin a campaign, and print everybody's link.

    A link is all that somebody needs to take part; whoever has it is that person. Links are printed once: the database
    keeps hashes. DIR gets campaign.yaml, secret.key (keep it: audits are drawn from it) and, without --database,
    campaign.sqlite. What is given here is fixed: another rule or another --max-labelers would change labels that were
    stated. An owner and an expert are added where nobody in the file has that role.

    Examples:

      truthful-rlhf campaign init team --pairs pairs.jsonl --labelers people.csv

      truthful-rlhf campaign init team --pairs pairs.csv --labelers people.csv --option label=median --audit-rate 0.2

      truthful-rlhf campaign init team --pairs pairs.jsonl --labelers people.csv --known-outcomes gold.csv --per-topic

      truthful-rlhf campaign init team --pairs pairs.jsonl --labelers people.csv
      --database postgresql+psycopg://me@localhost/team --url https://label.example.org
    """
    with _explained():
        from truthful_rlhf.pipeline.live.campaign import Campaign
        from truthful_rlhf.pipeline.live.settings import CampaignSettings, read_people

        settings = CampaignSettings.make(
            rule=rule,
            options=rule_options(option, None),
            labels=labels,
            per_topic=per_topic,
            reports_per_pair=reports_per_pair,
            audit_rate=audit_rate,
            max_labelers=max_labelers,
            stop_at=stop_at,
            database=database,
            markdown=markdown,
        )
        people = read_people(labelers)
        found = _read_pairs(pairs, column_mapping(column, topic=topic_column))
        campaign = Campaign.create(folder, found, people, settings, _read_outcomes(known_outcomes))
        known = campaign.state().counts.known
        console.print(f"{len(found):,} pairs, {known:,} known outcomes, {len(campaign.links)} people.")
        _print_links(campaign.links, url)
        console.print("Next:", style="bold")
        console.print(shown(f"  truthful-rlhf campaign serve {shlex.quote(str(folder))}"), soft_wrap=True)


@app.command()
def serve(
    folder: FolderArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    docs: Annotated[bool, typer.Option("--docs", help="Show the JSON API's description at /docs.")] = False,
) -> None:
    """Serve the pages of labelers, experts and the owner until Ctrl-C.

    Put a proxy that speaks HTTPS in front of it where it leaves your own network: the links are passwords.

    Examples:

      truthful-rlhf campaign serve team

      truthful-rlhf campaign serve team --host 0.0.0.0 --port 8080
    """
    with _explained():
        import uvicorn

        from truthful_rlhf.pipeline.live.campaign import Campaign
        from truthful_rlhf.pipeline.live.web.app import create_app

        campaign = Campaign.open(folder)
        console.print(shown(f"Serving {folder} at http://{host}:{port}. Ctrl-C ends it; nothing is lost."))
        uvicorn.run(create_app(campaign, docs=docs), host=host, port=port, log_level="warning", access_log=False)


@app.command()
def status(folder: FolderArgument) -> None:
    """Print how far a campaign is, and who has which weight.

    Examples:

      truthful-rlhf campaign status team
    """
    with _explained():
        campaign = _opened(folder)
        state = campaign.state()
        counts, weights = state.counts, state.weights
        rows = [
            ("pairs", f"{counts.pairs:,}", f"{counts.closed:,} closed"),
            ("reports", f"{counts.reports:,}", f"of {counts.reports_wanted:,}; {counts.skipped:,} skipped"),
            ("audits", f"{counts.audited:,}", f"{counts.answered:,} answered, {counts.waiting:,} wait for an expert"),
            ("known outcomes", f"{counts.known:,}", ""),
        ]
        print_table(f"Campaign {folder}", ("", "", ""), rows, n_text=1)
        people = sorted(state.labelers, key=lambda row: -weights[row.id])
        lines = [
            (
                *(row.id, "paused" if row.paused else "", f"{weights[row.id]:.3f}"),
                *(f"{row.reports:,}", f"{row.skipped:,}", f"{row.seconds / 60:.0f}"),
            )
            for row in people
        ]
        print_table("Labelers", ("labeler", "", "weight", "reports", "skipped", "minutes"), lines)


@app.command("add-pairs")
def add_pairs(
    folder: FolderArgument,
    file: Annotated[str, typer.Argument(help="More pairs: any file that judge reads.", show_default=False)],
    known_outcomes: KnownOption = None,
    topic_column: TopicOption = None,
    column: ColumnOption = None,
) -> None:
    """Add pairs to a campaign, such as the next iteration's of an online loop; people go on meanwhile.

    A pair that is there already is refused, by its row, and then nothing is added.

    Examples:

      truthful-rlhf campaign add-pairs team more.jsonl
    """
    with _explained():
        campaign = _opened(folder)
        found = _read_pairs(file, column_mapping(column, topic=topic_column))
        total = campaign.add_pairs(found, _read_outcomes(known_outcomes))
        console.print(f"{len(found):,} pairs added, {total:,} in all.")


@app.command()
def invite(
    folder: FolderArgument,
    names: Annotated[list[str], typer.Argument(help="Who; somebody who is there gets a new link.", show_default=False)],
    role: Annotated[str, typer.Option(help="Of those who join: labeler, expert or owner.")] = "labeler",
    url: UrlOption = "http://127.0.0.1:8000",
) -> None:
    """Let people join a running campaign, or give somebody who lost a link a new one, which ends the old one.

    A labeler who joins counts as absent until now: no earlier label changes.

    Examples:

      truthful-rlhf campaign invite team ann bob

      truthful-rlhf campaign invite team dr-lee --role expert --url https://label.example.org
    """
    with _explained():
        from truthful_rlhf.pipeline.live.settings import Person, checked_role

        campaign = _opened(folder)
        there = {person.id for person in campaign.people()}
        joining = checked_role(role)
        people = [name if name in there else Person(name, joining) for name in names]
        _print_links(campaign.invite(people), url)


@app.command()
def export(folder: FolderArgument, out: OutOption = Path("runs/campaign"), resample: ResampleOption = 0) -> None:
    """Write soft labels, data sets for TRL and the report on labelers, as aggregate does, and the whole log.

    At any moment: people go on meanwhile. log.jsonl has all outcomes, and who said what; it is for the owner alone.

    Examples:

      truthful-rlhf campaign export team --out runs/team
    """
    with _explained():
        from truthful_rlhf.pipeline.live.export import export_campaign

        campaign = _opened(folder)
        with console.status("reading the log") as busy:
            _, analysis = export_campaign(campaign, out, resample, busy.update)
        for warning in analysis.warnings:
            console.print(shown(f"Note: {warning}"), style="yellow", soft_wrap=True)
        console.print(shown(f"{' '.join(analysis.findings)} Report: {out / 'report.html'}"), soft_wrap=True)


@app.command()
def verify(
    folder: FolderArgument,
    log: Annotated[
        Path | None, typer.Option(help="log.jsonl of an earlier export: shows also whether the log's end was cut off.")
    ] = None,
) -> None:
    """Read the log again: is every event as it was written, and does it give the labels that were stated, to the bit?

    Examples:

      truthful-rlhf campaign verify team

      truthful-rlhf campaign verify team --log runs/team/log.jsonl
    """
    with _explained():
        from truthful_rlhf.pipeline.live.verify import verify_campaign

        found = verify_campaign(_opened(folder), log)
    for problem in found.problems:
        console.print(shown(problem), style="bold red", soft_wrap=True)
    if not found.holds:
        raise typer.Exit(1)
    console.print(
        f"{found.events:,} events, none of them changed; labels and weights came out the same, to the bit,"
        f" {found.stated} times. Hash of the last event: {found.last_hash}",
        soft_wrap=True,
    )


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what can be expected into one line; the first import inside may find that the extra is missing."""
    from truthful_rlhf.aggregation.extras import explained, require
    from truthful_rlhf.labelers.recorded.errors import AnnotationError
    from truthful_rlhf.pipeline.config.loading import ConfigError

    with clear_errors(AnnotationError, ConfigError, OSError), explained("campaign", "serve"):
        require("serve", "campaign")
        from truthful_rlhf.pipeline.live.settings import CampaignError
        from truthful_rlhf.pipeline.live.store import StoreError

        with clear_errors(CampaignError, StoreError):
            yield


def _opened(folder: Path) -> Campaign:
    from truthful_rlhf.pipeline.live.campaign import Campaign

    return Campaign.open(folder)


def _print_links(links: Sequence[Link], url: str) -> None:
    """Print everybody's link, a line each, so that they can be copied or sent on by a script."""
    console.print("Links (shown this once; whoever has a link is that person):", style="bold")
    for link in links:
        console.print(shown(f"{link.person.id}\t{link.person.role}\t{link.url(url)}"), soft_wrap=True)


def _read_pairs(file: str, columns: dict[str, str]) -> Pairs:
    """Return the pairs of a file; a pair that stands twice in a file of pairs is refused by its row."""
    from truthful_rlhf.labelers.recorded.files.source import read_records
    from truthful_rlhf.pipeline.judge.pairs import read_pair_file
    from truthful_rlhf.pipeline.live.settings import CampaignError

    found = read_pair_file(file, columns=columns)
    name, seen = columns.get("pair_id", "pair_id"), dict[str, int]()
    for row, record in (numbered for batch in read_records(file) for numbered in batch):
        pair_id = str(record.get(name, ""))
        if pair_id in seen and "labeler_id" not in record:
            raise CampaignError(f"{file}: row {row}: pair {pair_id!r} stands in row {seen[pair_id]} already")
        if pair_id:
            seen[pair_id] = row
    console.print(shown(f"Read {found.source}: {found.summary}."), soft_wrap=True)
    return found.pairs


def _read_outcomes(file: Path | None) -> dict[str, float]:
    """Return pair id -> outcome of a file with both columns; rows without an outcome are passed over."""
    from truthful_rlhf.labelers.recorded.files.source import read_records
    from truthful_rlhf.pipeline.live.settings import CampaignError

    outcomes: dict[str, float] = {}
    codes: dict[str, float] = {"1": 1.0, "1.0": 1.0, "a": 1.0, "0": 0.0, "0.0": 0.0, "b": 0.0}
    records: Any = [] if file is None else (numbered for batch in read_records(str(file)) for numbered in batch)
    for row, record in records:
        for column in ("pair_id", "outcome"):
            if column not in record:
                raise CampaignError(f"{file}: row {row}: no column {column!r}; found: {', '.join(map(str, record))}")
        said = "" if record["outcome"] is None else str(record["outcome"]).strip().lower()
        if said in ("", "nan"):
            continue
        if said not in codes:
            raise CampaignError(f"{file}: row {row}: outcome {said!r:.40}; write 1 or A (A is better), 0 or B")
        outcomes[str(record["pair_id"])] = codes[said]
    return outcomes
