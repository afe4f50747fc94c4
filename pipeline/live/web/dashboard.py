"""What the owner sees, computed from the campaign's state at most every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.leak_alarm import LeakAlarm, leak_alarm
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.rounds import Counts, LabelerRow, State

if TYPE_CHECKING:
    from truthful_rlhf.pipeline.aggregate.measures import Analysis

_REST_SECONDS = 10.0
_REDRAWS, _SIMULATED = 199, 20
"""Of the leak alarm: enough for its level of 1 %, and done in seconds where there are ten thousand pairs."""
_SURE = 0.9


@dataclass(frozen=True)
class Board:
    """The state of a campaign as the owner's page shows it."""

    at: float
    """When it was computed, in seconds since 1970."""
    event: int
    rule: str
    counts: Counts
    labelers: list[dict[str, Any]]
    """Heaviest first."""
    flags: list[dict[str, Any]]
    bonus_text: str | None
    alpha: tuple[float, float, float] | None
    findings: list[str]
    leak: LeakAlarm | None
    """None where no pair that closed was drawn for a check, or all were."""
    labels: FloatArray
    """Certainty of the soft labels of the judged pairs, in [0.5, 1]."""
    images: dict[str, bytes]

    @property
    def seconds(self) -> float:
        """What the reports took, together."""
        return float(sum(row["seconds"] for row in self.labelers))

    @property
    def sure(self) -> float:
        """Share of the judged pairs whose label is at least 0.9."""
        return float(np.mean(self.labels >= _SURE)) if len(self.labels) else 0.0

    def cost_per_pair(self, hourly: float) -> float | None:
        """Return what a closed pair has cost so far at an hourly wage, work on open pairs included."""
        return self.seconds / 3600.0 * hourly / self.counts.closed if self.counts.closed else None


class Dashboard:
    """Keeps the last board, and computes another one when it is old and something has happened since."""

    def __init__(self, campaign: Campaign, clock: Callable[[], float] = time.monotonic) -> None:
        self._campaign, self._clock = campaign, clock
        self._lock = threading.Lock()
        self._board: Board | None = None
        self._stale_at = 0.0

    def now(self) -> Board:
        """Return the campaign as it stands, or as it stood a few seconds ago."""
        with self._lock:
            if self._board is None or self._clock() >= self._stale_at:
                start = self._clock()
                state = self._campaign.state()
                if self._board is None or state.event != self._board.event:
                    self._board = _board(self._campaign, state)
                # Labelers come first: at most a tenth of the time goes into this.
                self._stale_at = self._clock() + max(_REST_SECONDS, 9.0 * (self._clock() - start))
            return self._board


def _board(campaign: Campaign, state: State) -> Board:
    # scipy and matplotlib: a server that is started again should soon be there
    from truthful_rlhf.pipeline.aggregate.measures import analyse
    from truthful_rlhf.pipeline.aggregate.report import figures_of

    result = state.result
    analysis = None if result is None else analyse(result, with_gains=False)
    judged = np.array([]) if result is None else result.soft_labels[~np.isnan(result.soft_labels)]
    return Board(
        at=time.time(),
        event=state.event,
        rule=state.settings.rule,
        counts=state.counts,
        labelers=_labelers(state, analysis),
        flags=analysis.flags if analysis else [],
        bonus_text=analysis.bonus_text if analysis else None,
        alpha=analysis.alpha if analysis and not np.isnan(analysis.alpha[0]) else None,
        findings=analysis.findings if analysis else [],
        leak=_leak(campaign, state),
        labels=np.maximum(judged, 1.0 - judged),
        images={} if result is None else figures_of(result),
    )


def _labelers(state: State, analysis: Analysis | None) -> list[dict[str, Any]]:
    work: dict[str, LabelerRow] = {row.id: row for row in state.labelers}
    if analysis is None:
        share = 1.0 / max(1, len(work))
        unmeasured = dict.fromkeys(("accuracy", "brier", "calibration_error", "agreement", "bonus"))
        measured: list[dict[str, Any]] = [{"labeler_id": name, "weight": share, **unmeasured} for name in work]
    else:
        measured = analysis.labelers
    rows = []
    for row in measured:
        own = work[row["labeler_id"]]
        values = {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}
        patterns = row.get("patterns", [])
        more = {"reports": own.reports, "skipped": own.skipped, "seconds": own.seconds, "paused": own.paused}
        rows.append({**values, **more, "patterns": patterns})
    return rows


def _leak(campaign: Campaign, state: State) -> LeakAlarm | None:
    """Compare agreement on the pairs that were drawn for a check with agreement on the others, closed ones only."""
    rate, closed = state.settings.audit_rate, np.arange(state.counts.closed)
    audited = np.array([campaign.secrets.is_audited(state.rounds.pair_ids[t], rate) for t in closed], dtype=bool)
    if audited.all() or not audited.any():
        return None
    reports = state.rounds.matrix(closed)
    return leak_alarm(reports, audited, np.random.default_rng(0), n_redraws=_REDRAWS, n_simulated=_SIMULATED)
