"""The two ways to hold a stream: by tritonclient's callbacks, and message by message."""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any

import grpc
from tritonclient.grpc import InferenceServerClient, InferResult
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelStreamInferResponse
from tritonclient.utils import InferenceServerException

Metadata = Sequence[tuple[str, str]]


class CallbackStream:
    """`client.start_stream`, whose callback fills a queue. Leaving `with` waits for what is in flight."""

    def __init__(self, client: InferenceServerClient, **options: Any) -> None:
        self._client = client
        self._answers: SimpleQueue[tuple[InferResult | None, InferenceServerException | None]] = SimpleQueue()
        client.start_stream(lambda result, error: self._answers.put((result, error)), **options)

    def send(self, model: str, inputs: Sequence[Any], **options: Any) -> None:
        self._client.async_stream_infer(model, inputs, **options)

    def next(self) -> tuple[InferResult | None, Any]:
        """What the callback was given, a result or an error."""
        return self._answers.get(timeout=30)

    def result(self) -> InferResult:
        result, error = self._answers.get(timeout=30)
        assert error is None, error
        return result

    def error(self) -> InferenceServerException:
        result, error = self._answers.get(timeout=30)
        assert error is not None, result
        return error

    def unread(self) -> int:
        return self._answers.qsize()

    def __enter__(self) -> CallbackStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.stop_stream(cancel_requests=kind is not None)


class RawStream:
    """ModelStreamInfer without a serialiser: bytes that are not a message can be sent, too."""

    def __init__(self, address: str, metadata: Metadata = ()) -> None:
        # As tritonclient has it: messages of any size.
        self._channel = grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)])
        self._requests: SimpleQueue[bytes | None] = SimpleQueue()
        call: grpc.StreamStreamMultiCallable[bytes, ModelStreamInferResponse] = self._channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            response_deserializer=ModelStreamInferResponse.FromString,
        )
        self.answers = call(iter(self._requests.get, None), timeout=250, metadata=tuple(metadata))

    def send(self, *requests: ModelInferRequest | bytes) -> None:
        for request in requests:
            self._requests.put(request if isinstance(request, bytes) else request.SerializeToString())

    def receive(self) -> ModelStreamInferResponse:
        return next(self.answers)

    def half_close(self) -> None:
        self._requests.put(None)

    def __enter__(self) -> RawStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.half_close()
        self._channel.close()
