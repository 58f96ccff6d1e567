"""Requests that cannot be read: their sequences have a gap, and end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from headrace.oip import open_inference_pb2 as pb
from headrace.server.services.oip.requests import Request, RequestReader
from tests.interpreted import interpreted
from tests.server.services.oip.calls import VALUES, InMemoryCall
from tests.server.services.oip.infer_service import Aborted, InferService


def step(*, start: bool = False) -> bytes:
    """A request of sequence 7."""
    message = pb.ModelInferRequest(model_name="sum", raw_input_contents=[VALUES.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=VALUES.shape)
    message.parameters["sequence_id"].int64_param = 7
    message.parameters["sequence_start"].bool_param = start
    return message.SerializeToString()


@interpreted
@pytest.mark.parametrize("streaming", [False, True])
def test_a_request_that_memory_is_lacking_for(monkeypatch: pytest.MonkeyPatch, streaming: bool) -> None:
    """An unexpected error, unlike those of what the client has sent."""

    def fail(_self: RequestReader, _parts: object, _client: object) -> Request:
        raise MemoryError

    async def run() -> None:
        service = InferService(None)
        (double,) = service.core.models
        service.core.models.add(replace(double.spec, name="sum", has_variables=True, sequences=True))
        with monkeypatch.context() as patch:
            patch.setattr(RequestReader, "read", fail)
            if streaming:
                call = InMemoryCall()
                call.send(step(start=True))
                task = service.stream(call)
                await call.wait_written(1)
                assert "too little memory" in call.errors[0]
                call.half_close()
                await task
            else:
                with pytest.raises(Aborted, match="RESOURCE_EXHAUSTED"):
                    await service.infer(step(start=True), InMemoryCall())
        with pytest.raises(Aborted, match="a request of it ended with RESOURCE_EXHAUSTED"):
            await service.infer(step(), InMemoryCall())

    asyncio.run(run())
