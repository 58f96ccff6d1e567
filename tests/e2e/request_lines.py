"""What a server has logged about requests, as objects."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.serving import Served
from tests.waiting import until

Line = dict[str, Any]


def lines_of(served: Served) -> list[Line]:
    """Every line of a log of JSON."""
    return [json.loads(line) for line in served.log.splitlines()]


def request_lines(served: Served, count: int) -> list[Line]:
    """Those about requests, once there are so many: a thread of the server writes them."""

    def found() -> list[Line]:
        return [line for line in lines_of(served) if line["logger"] == "headrace.requests"]

    until(lambda: len(found()) >= count, lambda: f"{len(found())} lines about requests, not {count}:\n{served.log}")
    return found()
