"""Which transport is chosen, by what grpcio is installed."""

from __future__ import annotations

import pytest

from headrace.server.transport.aio.server import AioTransport
from headrace.server.transport.choice import choose_transport
from headrace.server.transport.completion_queue import cython_layer
from headrace.server.transport.completion_queue.server import CompletionQueueTransport


def test_a_grpcio_that_was_not_tested_is_used_through_grpc_aio_unless_the_other_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cython_layer, "TESTED", ())
    for name, kind, warnings in (("auto", AioTransport, 1), ("completion-queue", CompletionQueueTransport, 0)):
        caplog.clear()
        transport = choose_transport(name, 0.0)  # type: ignore[arg-type]  # mypy infers any string
        transport.new_loop().close()
        assert type(transport) is kind
        told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(told) == warnings
        assert all("has not been tested" in each for each in told)
