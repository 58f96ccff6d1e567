"""The statistics of models: how many inferences they have run, and how long these took."""

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
        """The statistics of all models, of all versions of one model, or of one version. Raises NotFound."""
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
    """`epoch` is the time at which the event loop's clock was 0, in seconds since 1970."""
    statistics = model.statistics
    return pb.ModelStatistics(
        name=model.spec.name,
        version=model.spec.version,
        last_inference=0 if statistics.last is None else int((epoch + statistics.last) * 1e3),
        inference_count=statistics.inferences,
        execution_count=statistics.executions,
        inference_stats=pb.InferStatistics(
            success=_duration(*statistics.success),
            fail=_duration(*statistics.fail),
            queue=_duration(*statistics.queue),
            compute_input=_duration(*statistics.input),
            compute_infer=_duration(*statistics.infer),
            compute_output=_duration(*statistics.output),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=size,
                compute_input=_duration(count, input_seconds),
                compute_infer=_duration(count, infer_seconds),
                compute_output=_duration(count, output_seconds),
            )
            for size, (count, input_seconds, infer_seconds, output_seconds) in statistics.batches.items()
        ],
    )


def _duration(count: int, seconds: float) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=count, ns=round(seconds * 1e9))
