"""The load of the server and of its models at one moment, as `ServerStatus` has it."""

from __future__ import annotations

from heapq import nlargest

from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.quotas import Quota
from headrace.server.core.state import Stream, Ticket
from headrace.server.core.transitions import SlotState
from headrace.server.services.api import View
from headrace.server.version import VERSION
from headrace.v1 import inference_pb2 as pb
from headrace.wire.durations import microseconds
from headrace.wire.memory import resident_bytes

MAX_STREAMS = 32


def server_status(view: View, loop_lag: float) -> pb.ServerStatusResponse:
    streams = [stream for stream in view.streams if not stream.single]
    return pb.ServerStatusResponse(
        version=VERSION,
        draining=view.draining,
        streams=len(view.streams),
        tickets_in_flight=sum(stream.in_flight for stream in view.streams),
        kept_bytes=view.accounts.keep.used,
        queued_bytes=view.accounts.queue.used,
        models=[_model(model) for model in view.models],
        memory=_account("memory", view.accounts.memory),
        accounts=[_account(name, quota) for name, quota in view.accounts.by_name()],
        resident_bytes=resident_bytes(),
        busiest_streams=map(_stream, nlargest(MAX_STREAMS, streams, key=lambda each: each.in_flight)),
        loop_lag_us=microseconds(loop_lag),
    )


def _account(name: str, quota: Quota) -> pb.Account:
    return pb.Account(name=name, used_bytes=max(0, quota.used), limit_bytes=quota.limit)


def _stream(stream: Stream) -> pb.StreamStatus:
    return pb.StreamStatus(
        client=str(stream.owner) if stream.client is None else stream.client.name,
        tickets_in_flight=stream.in_flight,
        kept_bytes=stream.shares.keep.used,
        unsent_bytes=stream.unsent_bytes,
    )


def _model(model: ModelQueue[Ticket]) -> pb.ModelStatus:
    queues = (model, *model.variants)
    slots = [state for each in queues for state in each.slots]
    durations = model.counts.duration
    return pb.ModelStatus(
        name=model.spec.name,
        version=model.spec.version,
        slots_free=slots.count(SlotState.FREE),
        slots_running=slots.count(SlotState.RUNNING),
        slots_stopping=slots.count(SlotState.STOPPING),
        slots_restoring=slots.count(SlotState.RESTORING),
        restorations=sum(each.restorations for each in queues),
        tickets_queued=sum(each.queued for each in queues),
        inferences=model.statistics.inferences,
        failures=model.statistics.fail[0],
        executions=model.statistics.executions,
        refused=model.statistics.refused,
        overdue=model.statistics.overdue,
        variants=[_variant(each) for each in model.variants],
        durations=pb.Histogram(bounds=durations.bounds, counts=durations.counts),
    )


def _variant(variant: ModelQueue[Ticket]) -> pb.Variant:
    spec = variant.spec
    return pb.Variant(
        outputs=[port.name for port in spec.outputs],
        executions=variant.executions,
        memory_bytes=spec.memory_bytes,
    )
