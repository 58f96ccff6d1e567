"""Every metric: its name, labels and meaning. docs/guide/metrics.md shows this table.

Names are those of the exposition format, as a query has them, but for histograms and the build, whose suffixes are
left out.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class Metric(NamedTuple):
    """`shown` is the name in a query, of a histogram without `_bucket`, `_count` or `_sum`."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    @property
    def shown(self) -> str:
        return self.name + {Kind.COUNTER: "_total", Kind.INFO: "_info"}.get(self.kind, "")


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_MODEL = ("model", "version")

METRICS = (
    # Of a version of a model.
    Metric(
        "headrace_requests",
        _C,
        (*_MODEL, "outcome", "code"),
        "Inference requests that have ended: done, failed, cancelled, expired or refused. Without a model: those that "
        "named none which is served.",
    ),
    Metric("headrace_request_waiting_seconds", _H, _MODEL, "Time until the sources of a request were there, if done."),
    Metric("headrace_request_queued_seconds", _H, _MODEL, "Time in the queue for a slot, of requests that are done."),
    Metric("headrace_request_running_seconds", _H, _MODEL, "Time in a slot, of requests that are done."),
    Metric(
        "headrace_request_sending_seconds",
        _H,
        _MODEL,
        "Time from the end of a request that is done until the transport has its result.",
    ),
    Metric(
        "headrace_request_duration_seconds",
        _H,
        _MODEL,
        "Time from the arrival of a request that is done until the transport has its result.",
    ),
    Metric("headrace_requests_in_flight", _G, _MODEL, "Requests from admission until the transport has their result."),
    Metric("headrace_requests_queued", _G, _MODEL, "Requests that have all they need but a slot."),
    Metric("headrace_batch_size", _H, _MODEL, "Requests that have shared a run with a result."),
    Metric("headrace_runs", _C, (*_MODEL, "mode"), "Runs with a result: direct, on the event loop, or async."),
    Metric("headrace_pruned_runs", _C, _MODEL, "Of these, runs of a variant without outputs that nobody asked for."),
    Metric("headrace_variants", _G, _MODEL, "Variants that are loaded."),
    Metric("headrace_slots", _G, (*_MODEL, "state"), "Slots that are free, running, stopping or restoring."),
    Metric("headrace_slots_restored", _C, _MODEL, "Slots that were restored after a failed run."),
    Metric("headrace_compiled_models_replaced", _C, _MODEL, "Of these, slots that have got another compiled model."),
    Metric("headrace_model_memory_bytes", _G, _MODEL, "Memory that loading the version took, as measured then."),
    # Of the server.
    Metric("headrace_ready", _G, (), "1 if the server wants work, 0 while it loads its first models or stops."),
    Metric("headrace_draining", _G, (), "1 if new requests are refused because the server stops."),
    Metric("headrace_streams_open", _G, ("kind",), "Streams of frames or of single requests, and unary calls."),
    Metric("headrace_streams_opened", _C, ("kind",), "The same, since the start."),
    Metric("headrace_streams_asked_to_move", _C, (), "Streams that were asked to move, because of their age."),
    Metric(
        "headrace_connections_open",
        _G,
        (),
        "Connections that have a stream or a unary call of inference open, or identities if there are any.",
    ),
    Metric(
        "headrace_connections_opened",
        _C,
        (),
        "Connections that have opened one, since the start; one that has been idle while 8,192 others were not counts "
        "again.",
    ),
    Metric("headrace_memory_used_bytes", _G, (), "What of the memory budget is in use."),
    Metric("headrace_memory_limit_bytes", _G, (), "The memory budget: --memory."),
    Metric("headrace_account_used_bytes", _G, ("account",), "What of an account of the budget is in use."),
    Metric("headrace_account_limit_bytes", _G, ("account",), "The limit of an account of the budget."),
    Metric("headrace_sequences_live", _G, (), "Sequences that further requests may join."),
    Metric("headrace_fetches", _C, ("outcome", "code"), "Fetches that have ended, by how."),
    Metric("headrace_rejected", _C, ("reason",), "Commands, frames and calls that were not admitted, by why not."),
    Metric("headrace_frame_commands", _H, (), "Commands of a frame that has come."),
    Metric("headrace_frame_events", _H, (), "Events of a frame that was sent."),
    Metric("headrace_event_loop_lag_seconds", _H, (), "How late the event loop does what is due, four times a second."),
    Metric("headrace_load_duration_seconds", _H, ("outcome",), "Time to load a version of a model, or to fail to."),
    Metric("headrace_log_lines_dropped", _C, ("reason",), "Log lines that nobody read in time, or too many of a kind."),
    Metric("headrace_workers", _G, ("state",), "With --workers: those that answer, and those that are silent."),
    Metric("headrace_workers_replaced", _C, (), "Workers that have ended, and were replaced."),
    Metric(
        "headrace_worker_resident_bytes",
        _G,
        ("worker",),
        "Memory of a worker. What it has in common with others, such as files of models, counts for each.",
    ),
    Metric("headrace_build", Kind.INFO, (), "What is running."),
)
BY_NAME = {metric.name: metric for metric in METRICS}
