"""What deploy/ asks Prometheus is what a server tells it."""

from __future__ import annotations

import re

import pytest

from headrace.server.telemetry.metrics.catalogue import METRICS, Kind
from tests.e2e.dashboard import DEPLOY, alerts, panels

OF_THE_SCRAPE = {"job", "instance"}
OF_THE_PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"}
LABELS = {
    **dict.fromkeys(OF_THE_PROCESS | {"up"}, OF_THE_SCRAPE),
    **{
        f"{metric.shown}{suffix}": OF_THE_SCRAPE | {*metric.labels, *(("le",) if suffix == "_bucket" else ())}
        for metric in METRICS
        for suffix in (("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",))
    },
}
"""Those that each series has, by its name."""
QUERIES = [*panels(), *(("alert", alert) for alert in alerts())]
_METRIC = re.compile(r"\b((?:headrace|process)_\w+|up\b)(?:\{([^}]*)\})?")
_STRING = re.compile(r'"[^"]*"')


def test_there_are_queries() -> None:
    assert len([*panels()]) > 40
    assert len(alerts()) == (DEPLOY / "prometheus/alerts.yml").read_text().count("- alert:") > 10


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_what_a_query_names_is_there(title: str, query: str) -> None:
    named = _METRIC.findall(query)
    assert named, title
    there = set[str]()
    for name, selector in named:
        assert name in LABELS, f"{title}: there is no {name}"
        chosen = set(re.findall(r"(\w+)(?:=~|!=|=)", _STRING.sub("", selector)))
        assert chosen <= LABELS[name], f"{title}: {name} has no {chosen - LABELS[name]}"
        there |= LABELS[name]
    for grouped in re.findall(r"by \(([^)]*)\)", query):
        labels = set(re.split(r", *", grouped))
        assert labels <= there, f"{title}: nothing has {labels - there}"


def test_every_metric_is_shown() -> None:
    """The build alone is no number."""
    shown = {name for _, query in QUERIES for name, _ in _METRIC.findall(query)}
    missing = {metric.name for metric in METRICS if not any(name.startswith(metric.name) for name in shown)}
    assert missing == {"headrace_build"}
