"""Scrapes the metrics port of a server that is served."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.e2e.serving import Served

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
METRICS = re.compile(r"headrace metrics on (http://\S+)/metrics\n")


class Response(NamedTuple):
    status: int
    text: str
    content_type: str


class Scraped:
    """What a server has told: `scraped("headrace_requests_total", model="am", outcome="done")`."""

    def __init__(self, text: str) -> None:
        parsed: list[Metric] = [*text_string_to_metric_families(text)]  # type: ignore[no-untyped-call]
        self.families = {family.name: family for family in parsed}
        self._samples = [sample for family in self.families.values() for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name with these labels."""
        found = [each.value for each in self._samples if each.name == name and labels.items() <= each.labels.items()]
        return sum(found)

    def by(self, name: str, *labels: str, **others: str) -> dict[tuple[str, ...], float]:
        """The samples of this name that are not 0, by labels, among those with some others."""
        found: dict[tuple[str, ...], float] = {}
        for each in self._samples:
            if each.name == name and each.value and others.items() <= each.labels.items():
                key = tuple(each.labels[label] for label in labels)
                found[key] = found.get(key, 0) + each.value
        return found

    def labels(self, name: str) -> list[dict[str, str]]:
        return [each.labels for each in self._samples if each.name == name]


def get(url: str, accept: str = OPEN_METRICS) -> Response:
    try:
        with urlopen(Request(url, headers={"Accept": accept}), timeout=60) as answer:
            return Response(answer.status, answer.read().decode(), answer.headers["Content-Type"])
    except HTTPError as error:
        return Response(error.code, error.read().decode(), error.headers["Content-Type"])


def scrape(url: str) -> Scraped:
    answer = get(f"{url}/metrics")
    assert answer.status == 200, answer
    return Scraped(answer.text)


def url_of(served: Served) -> str:
    """Where a server listens that was started with a metrics port."""
    match = METRICS.search("".join(served.printed))
    assert match, f"no metrics port but {served.printed}"
    return match[1]
