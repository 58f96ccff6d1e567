"""What it costs to be watched."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

from tests.bench.cases.case import Case, Reference, Serving, Setting
from tests.bench.cases.small_models import add_multiply
from tests.bench.measuring.bounds import Bound
from tests.bench.measuring.turn import SERVER_TIME, Turn, TurnFailed
from tests.bench.serving.server import Server

INTERVAL_SECONDS = 1.0
"""Between two scrapes. Prometheus does with 15 to 60 times as long."""
SCRAPES = 4
"""In a turn, if seconds are not shortened."""
WATCHED = Serving(add_multiply, ("--metrics-port=0",), needs="--metrics-port")


@contextmanager
def scraped(url: str, interval: float) -> Iterator[list[int]]:
    """Somebody asks for metrics again and again inside the block. Gives the sizes of the answers. Raises TurnFailed."""
    sizes: list[int] = []
    failures: list[str] = []
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(interval):
            try:
                with urlopen(url, timeout=10) as answer:
                    sizes.append(len(answer.read()))
            except (URLError, TimeoutError) as error:
                failures.append(str(error))

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield sizes
    finally:
        ended.set()
        thread.join()
    if failures or not sizes:
        raise TurnFailed(f"metrics were not read: {', '.join(failures) or 'there was no time'}")


def _alone(setting: Setting, server: Server) -> Turn:
    return server.turn("clients.coroutines", SCRAPES * setting.seconds, workers=256)


def _watched(setting: Setting, server: Server) -> Turn:
    with scraped(server.metrics_url, INTERVAL_SECONDS * min(setting.seconds, 1.0)):
        return _alone(setting, server)


CASES = [
    # The same server in both turns: two differ from each other by more than what is measured here. Between scrapes, a
    # port for metrics is a thread that sleeps; what is counted is counted without one, too.
    Case(
        "metrics",
        "add/multiply, 256 coroutines, scraped each second: server's time",
        WATCHED,
        _watched,
        SERVER_TIME,
        Reference("not scraped", turn_of_server=_alone, figure=SERVER_TIME),
        Bound(1.02, 1.01, less=True),
        rounds=7,
    ),
]
