"""What a server did between two looks at its status. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from headrace.client.protocol.status import ModelStatus, ServerStatus

Order: TypeAlias = Literal["rate", "p99", "queue", "failures", "name"]


@dataclass(frozen=True, slots=True)
class ModelRates:
    """A model as it is now, and what it did in the seconds before.

    `rate`, `failures` and `refusals` are a second. `p50` and `p99` are seconds, and `batch` the requests that have
    shared a run in the mean; None if there was none.
    """

    now: ModelStatus
    rate: float
    failures: float
    refusals: float
    batch: float | None
    p50: float | None
    p99: float | None


def model_rates(before: ServerStatus | None, now: ServerStatus, seconds: float) -> list[ModelRates]:
    """One for each model. Without a look before, or for a model that was loaded since, all that it did counts."""
    earlier = {} if before is None else {(each.name, each.version): each for each in before.models}
    return [_rates(earlier.get((each.name, each.version)), each, seconds) for each in now.models]


def _rates(before: ModelStatus | None, now: ModelStatus, seconds: float) -> ModelRates:
    if before is None or now.inferences < before.inferences or now.failures < before.failures:
        before = ModelStatus(now.name, now.version, 0, 0, 0, 0, 0, 0, 0)  # it has been loaded again
    done, runs = now.inferences - before.inferences, now.executions - before.executions
    durations = now.durations - before.durations
    return ModelRates(
        now,
        rate=done / seconds,
        failures=(now.failures - before.failures) / seconds,
        refusals=max(0, now.refused - before.refused) / seconds,
        batch=done / runs if runs > 0 else None,
        p50=durations.quantile(0.5),
        p99=durations.quantile(0.99),
    )


def ordered(rates: Sequence[ModelRates], order: Order) -> list[ModelRates]:
    """The highest first, and those with the same figure by name."""

    def key(each: ModelRates) -> tuple[float, str, str]:
        figures = {
            "rate": each.rate,
            "p99": each.p99 or 0.0,
            "queue": float(each.now.tickets_queued),
            "failures": each.failures + each.refusals,
            "name": 0.0,
        }
        return -figures[order], each.now.name, each.now.version

    return sorted(rates, key=key)
