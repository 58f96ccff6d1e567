"""What a call has held is free as soon as it ends, whichever way, without a garbage collector.

That would free it at some time: it counts objects, and one may hold an output of megabytes that no account knows of.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from tests import models
from tests.e2e.resetting_proxy import ResettingProxy
from tests.e2e.serving import F32, Served
from tests.e2e.uncollected import GARBAGE, garbage
from tests.interop.inferences import (
    INFER,
    MODEL_INFER,
    MODEL_STREAM_INFER,
    STREAM,
    Bystander,
    frame,
    infer,
    model_infer,
)
from tests.soak.clients import FATES, Crowd

UNREADABLE = b"\xff\xff\xff"
FAILING = "half_failing"
"""Its runs fail, since they have one element."""
UNKNOWN = "unknown"


@contextmanager
def leaving_none(folder: Path, *models: Path) -> Iterator[tuple[Served, Bystander]]:
    """A server and a client of it. At the end the server has no garbage that is of our classes."""
    file = folder / "garbage"
    options = [*map(str, models), F32]
    with Served(options, folder / "log", {GARBAGE: str(file)}, module="tests.e2e.uncollected") as served:
        bystander = Bystander(served.address, 60)
        with bystander.channel:
            bystander.is_served()
            yield served, bystander
            bystander.until_idle()
            bystander.is_served()
            found = garbage(file)
            assert found["builtins.list"]
            assert {kind: number for kind, number in found.items() if kind.startswith("headrace.")} == {}
        assert served.stop() == 0


@pytest.mark.transport
def test_clients_that_are_killed_reset_expire_or_cancel_leave_none(tmp_path: Path) -> None:
    paths = [models.scale(tmp_path), models.slow(tmp_path, steps=2), models.wide(tmp_path)]
    with leaving_none(tmp_path, *paths) as (served, _), ResettingProxy(served.address) as proxy:
        ends, chance = Counter[str](), random.Random(5)
        Crowd(served.address, proxy.address, 5, 80, ends).live(proxy, chance)
        assert {*ends} == {*FATES, "answers"}


@pytest.mark.transport
def test_errors_leave_none(tmp_path: Path) -> None:
    with leaving_none(tmp_path, models.scale(tmp_path), models.half_failing(tmp_path)) as (_, bystander):
        unary = {INFER: infer, MODEL_INFER: model_infer}
        for method, build in unary.items():
            for message in (UNREADABLE, build(1, UNKNOWN), build(1, FAILING)):
                ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = bystander.channel.unary_unary(method)
                with pytest.raises(grpc.RpcError):
                    ask(message, timeout=60)
        streamed: dict[str, Callable[[float, str], bytes]] = {STREAM: _framed, MODEL_STREAM_INFER: model_infer}
        for method, compose in streamed.items():
            for message in (UNREADABLE, compose(1, UNKNOWN), compose(1, FAILING)):
                start: grpc.StreamStreamMultiCallable[bytes, bytes] = bystander.channel.stream_stream(method)
                assert [*start(iter([message]), timeout=60)]


def _framed(number: float, model: str) -> bytes:
    return frame(number, define=True, model=model)
