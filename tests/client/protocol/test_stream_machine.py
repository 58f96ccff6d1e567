"""In whatever order commands and events come, each ticket ends once, with its own result."""

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.client.protocol.call_cache import CallCache
from headrace.client.protocol.inputs import Inputs, Reference, Zeros
from headrace.client.protocol.slices import Slices
from headrace.client.protocol.stream_protocol import StreamProtocol
from headrace.client.protocol.ticket_state import TicketState
from headrace.wire.errors import Code
from tests.client.protocol.tiny_server import TinyServer

MODELS = ["m", "n", "a model with a longer name"]


class Streams(RuleBasedStateMachine):
    """A client and a server, with messages under way in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.server = TinyServer(window=24, max_message_bytes=70_000, layouts=3)
        self.stream = StreamProtocol(4 << 20)
        self.stream._encoder.calls = self.stream._calls = CallCache(max_calls=4, max_bytes=400)
        self.stream.receive(self.server.hello())
        self.tickets: list[TicketState] = []
        self.sums: dict[int, npt.NDArray[Any]] = {}
        """The sum of each ticket's inputs."""
        self.fetched: dict[int, npt.NDArray[Any]] = {}
        self.to_client: list[bytes] = []
        self.ended: list[TicketState] = []

    @precondition(lambda self: self.stream.free_window > 0)
    @rule(data=st.data(), model=st.sampled_from(MODELS), size=st.sampled_from([0, 1, 5, 17_000]))
    def submit(self, data: st.DataObject, model: str, size: int) -> None:
        keepers = [ticket for ticket in self.tickets if "z" in ticket.keep]
        value = np.full(size, len(self.tickets), np.float32)
        inputs: dict[str, Any] = {"x": value, "h": Zeros((size,), np.dtype(np.float32))}
        total = value
        chained = data.draw(st.booleans())
        if keepers and chained:
            source: TicketState = data.draw(st.sampled_from(keepers))
            if self.sums[source.tag].shape == value.shape:
                take = data.draw(st.booleans())
                inputs["u"] = Reference(self.stream, source.tag, "z", take)
                total = total + 2 * self.sums[source.tag]
        keep = ["z"] if data.draw(st.booleans()) else []
        outputs = data.draw(st.sampled_from([None, ["y"], []]))
        ticket = TicketState(None)
        self._submit(ticket, model, inputs, outputs, keep)
        self.sums[ticket.tag] = total

    def _submit(
        self,
        ticket: TicketState,
        model: str,
        inputs: Inputs,
        outputs: list[str] | None,
        keep: list[str],
    ) -> None:
        self.stream.submit(ticket, model, None, inputs, outputs, keep, None, 0)
        self.tickets.append(ticket)

    @precondition(lambda self: self.stream.free_window > 0 and self.tickets)
    @rule(data=st.data())
    def fetch(self, data: st.DataObject) -> None:
        source = data.draw(st.sampled_from(self.tickets))
        if "z" not in source.keep:
            return
        whole = 2 * self.sums[source.tag]
        slices: Slices = ((0, len(whole) // 2),) if data.draw(st.booleans()) else ()
        ticket = TicketState(None)
        self.stream.fetch(ticket, source, "z", slices)
        self.tickets.append(ticket)
        self.fetched[ticket.tag] = whole[: len(whole) // 2] if slices else whole

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.stream.release(data.draw(st.sampled_from(self.tickets)), ())

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.stream.cancel(data.draw(st.sampled_from(self.tickets)))

    @rule()
    def write(self) -> None:
        if (message := self.stream.next_message()) is not None:
            self.server.receive(message)

    @precondition(lambda self: self.server.ready)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.server.finish(data.draw(st.sampled_from(self.server.ready)))

    @precondition(lambda self: self.server.in_flight)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(sorted(self.server.in_flight)))
        self.server.fail(tag, Code.INTERNAL, "failed")

    @rule()
    def read(self) -> None:
        self.to_client += self.server.frames()
        if self.to_client:
            self.ended += self.stream.receive(self.to_client.pop(0))

    @invariant()
    def nothing_is_lost_or_ends_twice(self) -> None:
        assert self.stream.error is None
        in_flight = list(self.stream.in_flight.values())
        assert len(self.ended) + len(in_flight) == len(self.tickets)
        assert {id(ticket) for ticket in self.ended + in_flight} == set(map(id, self.tickets))
        assert len(in_flight) <= 24

    def teardown(self) -> None:
        for _ in range(3 * len(self.tickets) + len(self.to_client)):
            self.write()
            while self.server.ready:
                self.server.finish(self.server.ready[0])
            self.read()
        assert not self.stream.in_flight
        assert sum(command.kind == 0 for command in self.server.commands) == len(self.sums)
        for ticket in self.ended:
            self._check(ticket)

    def _check(self, ticket: TicketState) -> None:
        if ticket.error is not None:
            return
        outputs = ticket.outputs()
        if ticket.tag in self.fetched:
            np.testing.assert_array_equal(outputs["z"], self.fetched[ticket.tag])
        else:
            expected = {"y": self.sums[ticket.tag] + 1, "z": 2 * self.sums[ticket.tag]}
            for name, array in outputs.items():
                np.testing.assert_array_equal(array, expected[name])


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
