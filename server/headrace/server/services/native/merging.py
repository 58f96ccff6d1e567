"""What workers say of themselves in `headrace.v1.Inference`, put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from typing import Any

from headrace.server.services.merging import Answers, Merge, VersionState, merged_state
from headrace.server.services.native.status import MAX_STREAMS
from headrace.v1 import inference_pb2 as pb

_OF_SERVER = ("streams", "tickets_in_flight", "kept_bytes", "queued_bytes", "resident_bytes")
_OF_MODEL = (
    "slots_free",
    "slots_running",
    "slots_stopping",
    "slots_restoring",
    "restorations",
    "tickets_queued",
    "inferences",
    "failures",
    "executions",
    "refused",
    "overdue",
)


def merge_status(answers: Answers) -> bytes:
    """The sum of those that answer; the others are among its workers, with what is wrong."""
    statuses = [(number, pb.ServerStatusResponse.FromString(data)) for number, data in answers.responses]
    all_of_them = [status for _, status in statuses]
    first = all_of_them[0]
    merged = pb.ServerStatusResponse(
        version=first.version,
        draining=any(each.draining for each in all_of_them),
        models=_models(all_of_them),
        memory=_account([each.memory for each in all_of_them]),
        accounts=[_account(each) for each in _grouped("name", (list(each.accounts) for each in all_of_them))],
        busiest_streams=nlargest(
            MAX_STREAMS,
            (stream for each in all_of_them for stream in each.busiest_streams),
            key=lambda each: each.tickets_in_flight,
        ),
        workers=sorted(
            [
                *(_worker(number, status) for number, status in statuses),
                *(pb.WorkerStatus(number=number, problem=problem) for number, problem in answers.problems),
            ],
            key=lambda each: each.number,
        ),
    )
    _add(merged, all_of_them, _OF_SERVER)
    merged.loop_lag_us = max(each.loop_lag_us for each in all_of_them)
    return merged.SerializeToString()


def merge_models(answers: Answers) -> bytes:
    """The models of the worker that was called: a description is of one worker. States are of all."""
    lists = answers.parsed(pb.ListModelsResponse)
    numbers = [number for number, _ in answers.responses]
    found = [
        {
            (each.name, each.version): VersionState(pb.ModelState.State.Name(each.state), each.reason)
            for each in one.states
        }
        for one in lists
    ]
    states = []
    for name, version in sorted({key for one in found for key in one}, key=_by_number):
        state = merged_state([(n, one.get((name, version))) for n, one in zip(numbers, found, strict=True)])
        number = pb.ModelState.State.Value(state.state)
        states.append(pb.ModelState(name=name, version=version, state=number, reason=state.reason))
    return pb.ListModelsResponse(models=lists[0].models, states=states).SerializeToString()


MERGED: Mapping[str, Merge] = {
    "/headrace.v1.Inference/ServerStatus": merge_status,
    "/headrace.v1.Inference/ListModels": merge_models,
}


def _by_number(key: tuple[str, str]) -> tuple[str, int, str]:
    name, version = key
    return name, int(version) if version.isdecimal() else 0, version


def _models(statuses: Sequence[pb.ServerStatusResponse]) -> list[pb.ModelStatus]:
    by_version: dict[tuple[str, str], list[pb.ModelStatus]] = {}
    for status in statuses:
        for model in status.models:
            by_version.setdefault((model.name, model.version), []).append(model)
    return [_model(each) for each in by_version.values()]


def _model(models: Sequence[pb.ModelStatus]) -> pb.ModelStatus:
    first = models[0]
    merged = pb.ModelStatus(
        name=first.name,
        version=first.version,
        variants=[
            pb.Variant(
                outputs=each[0].outputs,
                executions=sum(variant.executions for variant in each),
                memory_bytes=sum(variant.memory_bytes for variant in each),
            )
            for each in _grouped("outputs", (list(model.variants) for model in models))
        ],
        durations=pb.Histogram(
            bounds=first.durations.bounds,
            counts=[sum(each) for each in zip(*(model.durations.counts for model in models), strict=True)],
        ),
    )
    _add(merged, models, _OF_MODEL)
    return merged


def _grouped(key: str, lists: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """What has the same value of a field, in the order in which it comes first."""
    groups: dict[Any, list[Any]] = {}
    for one in lists:
        for each in one:
            value = getattr(each, key)
            groups.setdefault(value if isinstance(value, str) else tuple(value), []).append(each)
    return list(groups.values())


def _account(accounts: Sequence[pb.Account]) -> pb.Account:
    return pb.Account(
        name=accounts[0].name,
        used_bytes=sum(each.used_bytes for each in accounts),
        limit_bytes=sum(each.limit_bytes for each in accounts),
    )


def _worker(number: int, status: pb.ServerStatusResponse) -> pb.WorkerStatus:
    return pb.WorkerStatus(
        number=number,
        streams=status.streams,
        tickets_in_flight=status.tickets_in_flight,
        inferences=sum(model.inferences for model in status.models),
        resident_bytes=status.resident_bytes,
    )


def _add(merged: Any, parts: Sequence[Any], names: Iterable[str]) -> None:
    for name in names:
        setattr(merged, name, sum(getattr(each, name) for each in parts))
