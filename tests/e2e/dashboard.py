"""What the dashboard and the alerts of deploy/ ask Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"
_VARIABLES = {"$__rate_interval": "30s", "$datasource": "", "$job": ".*", "$instance": ".*", "$model": ".*"}
_EXPRESSION = re.compile(r"^ +(?:- )?expr: (?:>-\n((?:^ {10}.*\n)+)|(.*)\n)", re.MULTILINE)


def panels() -> Iterator[tuple[str, str]]:
    """The queries of the dashboard, each with the title of its panel, and a value for each variable."""
    for panel in json.loads((DEPLOY / "grafana/headrace.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for variable, value in _VARIABLES.items():
                query = query.replace(variable, value)
            yield panel["title"], query


def alerts() -> list[str]:
    """The expressions of the alerts."""
    found = _EXPRESSION.findall((DEPLOY / "prometheus/alerts.yml").read_text())
    return [" ".join(line.strip() for line in (folded or plain).splitlines()) for folded, plain in found]
