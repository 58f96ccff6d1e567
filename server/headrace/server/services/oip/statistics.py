"""What models have done, and how long that took."""

from __future__ import annotations

import time

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.state import Ticket
from headrace.server.services.api import Streams


class StatisticsRpcs:
    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """Of all models, all versions of one, or one version."""
        models = self._streams.view.models
        if request.version and request.name:
            chosen = [models.find(request.name, request.version)]
        elif request.name:
            name = models.find(request.name).spec.name
            chosen = [model for model in models if model.spec.name == name]
        else:
            chosen = list(models)
        epoch = time.time() - self._streams.now()
        return pb.ModelStatisticsResponse(model_stats=[_statistics(model, epoch) for model in chosen])


def _statistics(model: ModelQueue[Ticket], epoch: float) -> pb.ModelStatistics:
    """`epoch`: what to add to the loop's time for seconds since 1970."""
    found = model.statistics
    return pb.ModelStatistics(
        name=model.spec.name,
        version=model.spec.version,
        last_inference=0 if found.last is None else int((epoch + found.last) * 1e3),
        inference_count=found.inferences,
        execution_count=found.executions,
        inference_stats=pb.InferStatistics(
            success=_duration(*found.success),
            fail=_duration(*found.fail),
            queue=_duration(*found.queue),
            compute_input=_duration(*found.input),
            compute_infer=_duration(*found.infer),
            compute_output=_duration(*found.output),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=size,
                compute_input=_duration(count, taken),
                compute_infer=_duration(count, inferred),
                compute_output=_duration(count, read),
            )
            for size, (count, taken, inferred, read) in found.batches.items()
        ],
    )


def _duration(count: int, seconds: float) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=count, ns=round(seconds * 1e9))
