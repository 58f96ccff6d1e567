"""The guide has every metric as it is."""

from __future__ import annotations

from headrace.server.core.counts import KINDS, REASONS
from headrace.server.telemetry.metrics.catalogue import METRICS
from tests.docs.tour import ROOT

PAGE = (ROOT / "docs/guide/metrics.md").read_text()


def test_every_metric_has_its_row() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `headrace_")]
    assert rows == [
        f"| `{metric.shown}` | {metric.kind.value} | {', '.join(metric.labels)} | {metric.help} |" for metric in METRICS
    ]


def test_every_reason_and_kind_is_there() -> None:
    for label in (*REASONS, *KINDS):
        assert f"`{label}`" in PAGE
