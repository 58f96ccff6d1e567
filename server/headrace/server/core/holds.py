"""Which tickets wait for others to share a run with, although a slot is free."""

from __future__ import annotations

import math

from headrace.server.core.crowd import URGENT
from headrace.server.core.scheduler import Model
from headrace.server.core.tickets import Ticket


class Holds:
    """`delay`: seconds for which every batch that is not full waits for more tickets, 0 for none; None: crowds do."""

    def __init__(self, delay: float | None) -> None:
        self._delay = delay
        self._held: dict[Model, float] = {}
        """Models whose tickets wait, and until when."""

    def came(self, ticket: Ticket, model: Model, now: float) -> None:
        """A ticket is about to be queued that may share a run."""
        if self._delay != 0:
            alone = model.spec.direct and ticket.stream.unary and not ticket.priority
            patient = alone and (ticket.due is None or ticket.due - now >= URGENT)
            model.crowd.came(model.queued, now, patient=patient)

    def wait(self, model: Model, now: float) -> bool:
        """Whether the tickets of a model wait for more of them."""
        self._held.pop(model, None)
        if self._delay == 0 or not 0 < model.queued < model.spec.batch:
            return False
        crowd = model.crowd
        due = crowd.due if self._delay is None else crowd.first + self._delay
        if due <= now:
            return False
        self._held[model] = due
        return True

    def ran(self, model: Model, count: int) -> None:
        """So many tickets have been started together."""
        if self._delay is None and model.crowd.patient:
            model.crowd.ran(count)

    def over(self, now: float) -> list[Model]:
        """The models whose tickets have waited long enough."""
        return [model for model, due in self._held.items() if due <= now]

    @property
    def first_due(self) -> float:
        """When tickets stop to wait for others; never when none do."""
        held = self._held
        return min((due for model, due in held.items() if model.queued), default=math.inf) if held else math.inf
