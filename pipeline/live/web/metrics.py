"""What a Prometheus server collects: requests by route, and the campaign's counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from truthful_rlhf.pipeline.live.campaign import Campaign

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The counters of one server."""

    def __init__(self, campaign: Campaign) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Counts(campaign))
        self._requests = Counter(
            "campaign_requests", "Answered requests.", ("route", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "campaign_request_seconds", "Time to the answer.", ("route",), registry=self._registry, buckets=_BUCKETS
        )

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            scope: of ASGI; the route that it was led to stands in it. An address itself is never a label: it may be
                a personal link.
            status: of HTTP.
            seconds: to the end of the answer.
        """
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Counts(Collector):
    """The campaign's counts, read when they are asked for."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign

    def describe(self) -> list[Metric]:
        return []  # so that nothing is read before the first request

    def collect(self) -> Iterator[Metric]:
        for name, value in asdict(self._campaign.state().counts).items():
            words = name.replace("_", " ")
            yield GaugeMetricFamily(f"campaign_{name}", f"Number of {words}.", value=value)
