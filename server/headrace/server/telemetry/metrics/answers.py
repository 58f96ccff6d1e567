"""What the port for metrics answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from headrace.server.telemetry.metrics.asking import Asker
from headrace.server.telemetry.metrics.exposition import Exposition
from headrace.server.telemetry.metrics.readings import Readings


class ServerAnswers:
    """`endpoint.Answers`, to be made on the event loop, where `read` and `ready` are called."""

    def __init__(self, read: Callable[[], Readings], ready: Callable[[], bool], build: Mapping[str, str]) -> None:
        self._asker = Asker()
        self._ready = ready
        self._exposition = Exposition(lambda: self._asker.ask(read), build)
        self._turn = threading.Lock()
        """Held while text is made, for one scraper at a time: a hundred of them get less than one would."""

    def metrics(self, accept: str) -> tuple[bytes, str]:
        with self._turn:
            return self._exposition.text(accept)

    def is_alive(self) -> bool:
        return self._asker.ask(lambda: True)

    def is_ready(self) -> bool:
        return self._asker.ask(self._ready)
