"""Which tickets wait for others to share a run with, although a slot is free."""

from __future__ import annotations

import math

from headrace.server.core.crowd import URGENT
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.tickets import Ticket


class Holds:
    """`delay`: seconds for which every batch that is not full waits for more tickets. `gather`: crowds do, if 0."""

    def __init__(self, delay: float, *, gather: bool) -> None:
        self._delay = delay
        self._gather = gather and not delay
        self.held: dict[ModelQueue, None] = {}
        """Models whose tickets wait."""

    def came(self, ticket: Ticket, model: ModelQueue, now: float) -> None:
        """A ticket of a model with batches is about to be queued."""
        if self._gather or self._delay:
            alone = model.spec.direct and ticket.stream.unary and not ticket.priority
            # With no rows, or more than a batch takes, it shares a run with nobody.
            patient = alone and ticket.rows > 0 and (ticket.due is None or ticket.due - now >= URGENT)
            model.crowd.came(model.queued, id(ticket.stream), now, patient=patient)

    def again(self, model: ModelQueue) -> None:
        """Tickets are queued again that run alone: they wait for nobody, nor does who is queued with them."""
        model.crowd.quiet()

    def wait(self, model: ModelQueue, now: float) -> bool:
        """Whether the tickets of a model wait for more of them."""
        self.held.pop(model, None)
        if not (self._gather or self._delay) or not 0 < model.queued < model.spec.batch:
            return False
        if self._due(model) <= now:
            return False
        self.held[model] = None
        return True

    def goes_on(self, model: ModelQueue, now: float) -> bool:
        """Whether the tickets of a model have waited and still do, with one more that has come now."""
        return model in self.held and model.queued < model.spec.batch and self._due(model) > now

    def ran(self, model: ModelQueue, count: int) -> None:
        """So many tickets have been started together."""
        if self._gather:
            model.crowd.ran(count)

    @property
    def gathering(self) -> bool:
        """Whether tickets wait until it is quiet."""
        return self._gather and bool(self.held)

    def quiet(self) -> list[ModelQueue]:
        """It is: the models of these tickets."""
        models = [*self.held] if self._gather else []
        for model in models:
            model.crowd.quiet()
        return models

    def over(self, now: float) -> list[ModelQueue]:
        """The models whose tickets have waited long enough."""
        return [model for model in self.held if self._due(model) <= now]

    @property
    def first_due(self) -> float:
        """When tickets stop to wait for others, whatever happens until then; never when none do."""
        first = math.inf
        for model in self.held:
            if model.queued:
                first = min(first, self._due(model))
        return first

    def _due(self, model: ModelQueue) -> float:
        crowd = model.crowd
        return crowd.due if self._gather else crowd.first + self._delay
