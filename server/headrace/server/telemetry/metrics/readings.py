"""Reads the numbers of which metrics are made, on the event loop: nothing of them is half counted then.

That only copies numbers. To make text of them takes a hundred times as long, and happens on another thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from headrace.server.core.core import Core
from headrace.server.core.counts import DONE, KINDS, Histogram, ModelCounts, kind_of
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.state import Ticket
from headrace.server.core.transitions import SlotState

TICKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Bounds for the tickets of a run."""


class Buckets(NamedTuple):
    """A histogram as it was: `counts` are of the values above one bound and at most the next."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


Value: TypeAlias = float | Buckets
Readings: TypeAlias = dict[str, list[tuple[tuple[str, ...], Value]]]
"""By the name of a metric: the values of its labels, and its value."""


def read_core(core: Core) -> Readings:
    """What the core has counted, and what it holds."""
    readings: Readings = {}
    _read_models(core, readings)
    _read_streams(core, readings)
    _read_memory(core, readings)
    counts = core.counts
    put(readings, "headrace_draining", float(core.draining))
    put(readings, "headrace_streams_asked_to_move", counts.asked_to_move)
    put(readings, "headrace_sequences_live", float(len(core.sequences)))
    for end, count in counts.fetches.items():
        put(readings, "headrace_fetches", count, *end)
    for reason, count in counts.rejected.items():
        put(readings, "headrace_rejected", count, reason)
    put(readings, "headrace_frame_commands", buckets(counts.frame_commands))
    put(readings, "headrace_frame_events", buckets(counts.frame_events))
    for outcome, times in counts.loads.items():
        put(readings, "headrace_load_duration_seconds", buckets(times), outcome)
    return readings


def put(readings: Readings, name: str, value: Value, *labels: str) -> None:
    readings.setdefault(name, []).append((labels, value))


def buckets(histogram: Histogram, more_zeros: int = 0) -> Buckets:
    """A copy, with as many further values that are 0."""
    first, *others = histogram.counts
    return Buckets(histogram.bounds, (first + more_zeros, *others), histogram.sum)


def in_flight(core: Core) -> Mapping[ModelCounts, int]:
    """The Infers in flight of each version of a model.

    They need it until they give back their inputs, or have ended and the transport does not have their event yet. One
    that has ended before its run is among both.
    """
    found: dict[ModelCounts, int] = {}
    for model in core.models.with_slots():
        counts = model.counts
        serving = 0 if model in core.models.retired else 1
        if counts not in found:
            found[counts] = counts.done + counts.failed - counts.handed_off
        found[counts] += model.holders - serving
    for run, tickets in core.runs:
        model_of_run = tickets[0].model
        if model_of_run is not None:
            found[model_of_run.counts] -= len(tickets) - run.wanted
    return found


def _read_models(core: Core, readings: Readings) -> None:
    by_version: dict[tuple[str, str], list[ModelQueue[Ticket]]] = {}
    for model in core.models.with_slots():
        by_version.setdefault((model.spec.name, model.spec.version), []).append(model)
    flying = in_flight(core)
    for version, models in by_version.items():
        counts = models[0].counts
        _read_counts(counts, readings, *version)
        put(readings, "headrace_requests_in_flight", flying[counts], *version)
        put(readings, "headrace_requests_queued", sum(each.queued for each in models), *version)
        serving = [each for each in models if each.full is None]
        put(readings, "headrace_variants", sum(len(each.variants) for each in serving), *version)
        put(readings, "headrace_model_memory_bytes", sum(each.spec.memory_bytes for each in serving), *version)
        _read_slots(models, readings, *version)
    _read_ends(core.models.no_model, readings, "", "")


def _read_ends(counts: ModelCounts, readings: Readings, name: str, version: str) -> None:
    for end, count in counts.ends.items():
        put(readings, "headrace_requests", count, name, version, *end)


def _read_counts(counts: ModelCounts, readings: Readings, name: str, version: str) -> None:
    put(readings, "headrace_requests", counts.done, name, version, *DONE)
    _read_ends(counts, readings, name, version)
    waited = counts.queued.count - counts.waiting.count
    put(readings, "headrace_request_waiting_seconds", buckets(counts.waiting, waited), name, version)
    for phase in ("queued", "running", "sending", "duration"):
        put(readings, f"headrace_request_{phase}_seconds", buckets(getattr(counts, phase)), name, version)
    put(readings, "headrace_batch_size", buckets(_sizes(counts)), name, version)
    put(readings, "headrace_runs", counts.direct_runs, name, version, "direct")
    put(readings, "headrace_runs", sum(counts.runs) - counts.direct_runs, name, version, "async")
    put(readings, "headrace_pruned_runs", counts.pruned_runs, name, version)
    put(readings, "headrace_slots_restored", counts.restored, name, version)
    put(readings, "headrace_compiled_models_replaced", counts.replaced, name, version)


def _sizes(counts: ModelCounts) -> Histogram:
    """How many tickets have shared a run."""
    sizes = Histogram(TICKETS)
    for shared, runs in enumerate(counts.runs):
        sizes.add(float(shared), runs)
    return sizes


def _read_slots(models: Iterable[ModelQueue[Ticket]], readings: Readings, name: str, version: str) -> None:
    slots = [state for each in models for state in each.slots]
    for state in SlotState:
        put(readings, "headrace_slots", slots.count(state), name, version, state.name.lower())


def _read_streams(core: Core, readings: Readings) -> None:
    counts = core.counts
    kinds = [kind_of(unary=stream.unary, single=stream.single) for stream in core.streams]
    for kind in KINDS:
        put(readings, "headrace_streams_open", kinds.count(kind), kind)
        put(readings, "headrace_streams_opened", counts.streams[kind], kind)
    put(readings, "headrace_connections_open", len({stream.owner for stream in core.streams}))
    put(readings, "headrace_connections_opened", counts.connections.opened)


def _read_memory(core: Core, readings: Readings) -> None:
    memory = core.accounts.memory
    put(readings, "headrace_memory_used_bytes", memory.used)
    put(readings, "headrace_memory_limit_bytes", memory.limit)
    for name, account in core.accounts.by_name():
        put(readings, "headrace_account_used_bytes", account.used, name)
        put(readings, "headrace_account_limit_bytes", account.limit, name)
