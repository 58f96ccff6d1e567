"""The deadline of a unary call that a busy server sees late."""

from __future__ import annotations

import asyncio

import pytest

from tests.server.services.oip.calls import InMemoryCall, request
from tests.server.services.oip.infer_service import Aborted, InferService


def test_a_call_whose_deadline_is_over_is_not_run() -> None:
    async def run() -> None:
        service = InferService(None)
        with pytest.raises(Aborted, match="DEADLINE_EXCEEDED"):
            await service.infer(request(), InMemoryCall(seconds=0.0))
        assert not service.engine.running
        (double,) = service.core.models
        assert double.statistics.fail[0] == 0, "it was never admitted"

    asyncio.run(run())
