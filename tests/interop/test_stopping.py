"""A server that stops while clients that were not written here have calls: one server, and all of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from headrace.v1 import inference_pb2 as pb
from tests import models
from tests.e2e.serving import Serve, Served
from tests.interop.inferences import (
    INFER,
    MODEL_INFER,
    MODEL_STREAM_INFER,
    STREAM,
    WATCH,
    Bystander,
    Event,
    events,
    frame,
    infer,
    infer_answer,
    model_infer,
    model_infer_answer,
    stream_answer,
)
from tests.interop.remote import LIBRARIES, Call, Library, Remote

pytestmark = pytest.mark.transport

Code = grpc.StatusCode


class InFlight:
    """A client with five inferences in flight: two of a stream of ours, and three of the Open Inference Protocol."""

    def __init__(self, client: Remote) -> None:
        self.client = client
        self.watch = client.stream(WATCH)
        self.watch.send(b"")
        self.watch.half_close()
        assert health_pb2.HealthCheckResponse.FromString(self.watch.receive()).status == 1
        self.native, self.oip = client.stream(STREAM), client.stream(MODEL_STREAM_INFER)
        self.native.receive()
        self.native.send(frame(1, 2, define=True, model="slow"))
        self.oip.send(model_infer(3, "slow"))
        self.infer = client.unary(INFER, infer(4, "slow"))
        self.model_infer = client.unary(MODEL_INFER, model_infer(5, "slow"))

    def calls(self) -> tuple[Call, ...]:
        return self.native, self.oip, self.infer, self.model_infer


@contextmanager
def in_flight(served: Served) -> Iterator[list[InFlight]]:
    """Of each library that keeps what it has received when the server says goodbye."""
    usable = [each for each in LIBRARIES.values() if isinstance(each, Library) and each.finishes_after_goaway]
    with ExitStack() as stack:
        remotes = [stack.enter_context(library.connect(served.address)) for library in usable]
        yield [InFlight(remote) for remote in remotes]


def until_all_are_admitted(bystander: Bystander, clients: list[InFlight]) -> int:
    """Returns how many inferences are done by then; the others are in flight."""

    def done(status: pb.ServerStatusResponse) -> int:
        return sum(model.inferences for model in status.models)

    status = bystander.until(lambda status: status.tickets_in_flight + done(status) == 5 * len(clients))
    assert status.tickets_in_flight
    return done(status)


@pytest.mark.timeout(150)  # four programs start, and twenty inferences follow each other
def test_what_is_in_flight_ends_well_and_what_is_new_is_unavailable(serve: Serve, tmp_path: Path) -> None:
    served = serve(models.slow(tmp_path, steps=6), models.scale(tmp_path), "--grace=55", "--slots=1")
    bystander = Bystander(served.address)
    with bystander.channel, in_flight(served) as clients:
        until_all_are_admitted(bystander, clients)
        served.process.send_signal(signal.SIGTERM)
        for each in clients:
            assert health_pb2.HealthCheckResponse.FromString(each.watch.receive()).status == 2
            new = each.client.stream(MODEL_STREAM_INFER)
            new.send(model_infer(1))
            refused = (
                each.client.unary(INFER, infer(1)),
                each.client.unary(MODEL_INFER, model_infer(1)),
                new,
            )
            assert [call.end().code for call in refused] == [Code.UNAVAILABLE] * 3
        for each in clients:
            assert infer_answer(each.infer.reply()) == 4
            assert model_infer_answer(each.model_infer.reply()) == 5
            assert stream_answer(each.oip.receive())[1] == 3
            done: list[float] = []
            while len(done) < 2:
                told, numbers = events(each.native.receive())
                assert {event.kind for event in told} <= {Event.DONE, Event.DRAINING}
                done += numbers
            assert sorted(done) == [1, 2]
            # Their clients have not half-closed: what they would have sent next is not read.
            assert [call.end().code for call in (each.native, each.oip, each.watch)] == [Code.UNAVAILABLE] * 3
        assert served.process.wait(20) == 0
        for each in clients:  # nobody listens any more
            assert each.client.unary(INFER, infer(1), timeout=10).end().code is Code.UNAVAILABLE


@pytest.mark.timeout(150)
def test_what_is_in_flight_when_the_grace_ends_is_unavailable(serve: Serve, tmp_path: Path) -> None:
    served = serve(models.slow(tmp_path), "--grace=0.1", "--slots=1")
    bystander = Bystander(served.address)
    with bystander.channel, in_flight(served) as clients:
        done = until_all_are_admitted(bystander, clients)
        served.process.send_signal(signal.SIGTERM)
        codes = [call.end().code for each in clients for call in each.calls()]
        # Few more are done. CANCELLED is what a client gets that a busy machine has not let be told in time.
        assert codes.count(Code.OK) <= done + 2
        assert set(codes) <= {Code.UNAVAILABLE, Code.CANCELLED, Code.OK}
        assert served.process.wait(20) == 0
