"""What workers say of themselves in the Open Inference Protocol, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.oip import open_inference_pb2 as pb
from headrace.server.services.merging import Answers, Merge, VersionState, merged_state

_TIMES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


def merge_statistics(answers: Answers) -> bytes:
    """The sums of all workers. Raises Unavailable if one of them has not answered: a part would look like the whole."""
    by_version: dict[tuple[str, str], list[pb.ModelStatistics]] = {}
    for response in answers.parsed(pb.ModelStatisticsResponse):
        for model in response.model_stats:
            by_version.setdefault((model.name, model.version), []).append(model)
    return pb.ModelStatisticsResponse(model_stats=[_model(each) for each in by_version.values()]).SerializeToString()


def merge_index(answers: Answers) -> bytes:
    """The state of each version in all workers. Only those that are ready in all count as ready."""
    ready = pb.RepositoryIndexRequest.FromString(answers.request).ready
    numbers = [number for number, _ in answers.responses]
    found = [
        {(each.name, each.version): VersionState(each.state, each.reason) for each in response.models}
        for response in answers.parsed(pb.RepositoryIndexResponse)
    ]
    models = []
    for name, version in dict.fromkeys(key for one in found for key in one):
        state = merged_state([(n, one.get((name, version))) for n, one in zip(numbers, found, strict=True)])
        if state.state == "READY" or not ready:
            models.append(
                pb.RepositoryIndexResponse.ModelIndex(
                    name=name, version=version, state=state.state, reason=state.reason
                )
            )
    return pb.RepositoryIndexResponse(models=models).SerializeToString()


_SERVICE = "/inference.GRPCInferenceService"
MERGED: Mapping[str, Merge] = {
    f"{_SERVICE}/ModelStatistics": merge_statistics,
    f"{_SERVICE}/RepositoryIndex": merge_index,
}
COMMANDS: Mapping[str, str | None] = {
    f"{_SERVICE}/LogSettings": None,
    f"{_SERVICE}/SystemSharedMemoryRegister": f"{_SERVICE}/SystemSharedMemoryUnregister",
    f"{_SERVICE}/SystemSharedMemoryUnregister": None,
}
"""What changes every worker, and what undoes it."""


def undo(path: str, request: bytes) -> tuple[str, bytes] | None:
    """The call that undoes a command, if there is one."""
    undoing = COMMANDS[path]
    if undoing is None:
        return None
    name = pb.SystemSharedMemoryRegisterRequest.FromString(request).name
    return (undoing, pb.SystemSharedMemoryUnregisterRequest(name=name).SerializeToString()) if name else None


def _model(models: Sequence[pb.ModelStatistics]) -> pb.ModelStatistics:
    batches: dict[int, list[pb.InferBatchStatistics]] = {}
    for model in models:
        for batch in model.batch_stats:
            batches.setdefault(batch.batch_size, []).append(batch)
    return pb.ModelStatistics(
        name=models[0].name,
        version=models[0].version,
        last_inference=max(each.last_inference for each in models),
        inference_count=sum(each.inference_count for each in models),
        execution_count=sum(each.execution_count for each in models),
        inference_stats=pb.InferStatistics(
            **{name: _sum([getattr(each.inference_stats, name) for each in models]) for name in _TIMES}
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=size,
                compute_input=_sum([each.compute_input for each in batch]),
                compute_infer=_sum([each.compute_infer for each in batch]),
                compute_output=_sum([each.compute_output for each in batch]),
            )
            for size, batch in sorted(batches.items())
        ],
    )


def _sum(durations: Sequence[pb.StatisticDuration]) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=sum(each.count for each in durations), ns=sum(each.ns for each in durations))
