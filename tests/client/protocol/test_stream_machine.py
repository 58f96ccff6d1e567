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
from headrace.wire.errors import Code, DeadlineExceeded
from tests.client.protocol.tiny_server import INFERS, TinyServer

QUEUE_BYTES = 150_000
MODELS = ["m", "n", "a model with a longer name"]


class Streams(RuleBasedStateMachine):
    """A client and a server, with messages under way in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.server = TinyServer(window=24, max_message_bytes=70_000, layouts=3, queue_bytes=QUEUE_BYTES)
        self.stream = StreamProtocol(4 << 20)
        self.stream._encoder.calls = self.stream._calls = CallCache(max_calls=4, max_bytes=400)
        self.stream.receive(self.server.hello())
        self.tickets: list[TicketState] = []
        self.sums: dict[int, npt.NDArray[Any]] = {}
        """The sum of each ticket's inputs."""
        self.by_tag: dict[int, TicketState] = {}
        self.kept: dict[tuple[int, str], npt.NDArray[Any]] = {}
        """What each ticket keeps, or has kept, by name."""
        self.fetched: dict[int, tuple[str, npt.NDArray[Any]]] = {}
        self.to_client: list[bytes] = []
        self.ended: list[TicketState] = []
        self.now = 0.0

    @precondition(lambda self: self.stream.free_window > 0)
    @rule(data=st.data(), model=st.sampled_from(MODELS), size=st.sampled_from([0, 1, 5, 17_000]))
    def submit(self, data: st.DataObject, model: str, size: int) -> None:
        value = np.full(size, len(self.tickets), np.float32)
        inputs: dict[str, Any] = {"x": value, "h": Zeros((size,), np.dtype(np.float32))}
        given: dict[str, npt.NDArray[Any]] = {"x": value, "h": 0 * value}
        long_enough = [key for key, array in self.kept.items() if len(array) >= size]
        chained = data.draw(st.booleans())
        if long_enough and chained:
            tag, name = data.draw(st.sampled_from(long_enough))
            whole = self.kept[tag, name]
            first = data.draw(st.integers(0, len(whole) - size))
            source = self.by_tag[tag]
            inputs["u"] = Reference(self.stream, tag, name, data.draw(st.booleans()), source)
            if len(whole) > size or data.draw(st.booleans()):
                open_end = source.kept_shape(name) is not None and first + size == len(whole)
                inputs["u"] = inputs["u"][first : None if open_end and data.draw(st.booleans()) else first + size]
            given["u"] = whole[first : first + size]
        keep = ["z"] if data.draw(st.booleans()) else []
        keep_inputs = data.draw(st.lists(st.sampled_from(sorted(given)), unique=True, max_size=2))
        outputs = data.draw(st.sampled_from([None, ["y"], []]))
        ticket = TicketState(None)
        self._submit(ticket, model, inputs, outputs, keep, keep_inputs)
        if data.draw(st.booleans()):
            self.stream.set_deadline(ticket, self.now + data.draw(st.integers(0, 9)))
        self.by_tag[ticket.tag] = ticket
        total: npt.NDArray[Any] = np.asarray(sum(given.values()))
        self.sums[ticket.tag], given["z"] = total, 2 * total
        for name in (*keep, *keep_inputs):
            self.kept[ticket.tag, name] = given[name]

    def _submit(
        self,
        ticket: TicketState,
        model: str,
        inputs: Inputs,
        outputs: list[str] | None,
        keep: list[str],
        keep_inputs: list[str],
    ) -> None:
        self.stream.submit(ticket, model, None, inputs, outputs, keep, None, 0, keep_inputs)
        self.tickets.append(ticket)

    @precondition(lambda self: self.stream.free_window > 0 and self.kept)
    @rule(data=st.data())
    def fetch(self, data: st.DataObject) -> None:
        tag, name = data.draw(st.sampled_from([*self.kept]))
        whole = self.kept[tag, name]
        slices: Slices = ((0, len(whole) // 2),) if data.draw(st.booleans()) else ()
        ticket = TicketState(None)
        self.stream.fetch(ticket, self.by_tag[tag], name, slices)
        self.tickets.append(ticket)
        self.fetched[ticket.tag] = name, whole[: len(whole) // 2] if slices else whole

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.stream.release(data.draw(st.sampled_from(self.tickets)), ())

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.stream.cancel(data.draw(st.sampled_from(self.tickets)))

    @rule(seconds=st.integers(0, 9))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        if self.now >= self.stream.next_deadline:
            self.ended += self.stream.expire(self.now)

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
        late = [*self.stream._late.values()]
        assert self.stream.input_bytes == sum(ticket.input_bytes for ticket in in_flight + late)
        largest = max((ticket.input_bytes for ticket in in_flight + late), default=0)
        assert self.stream.input_bytes < QUEUE_BYTES + largest
        assert all(ticket.deadline >= self.stream.next_deadline or ticket.deadline > self.now for ticket in in_flight)

    def teardown(self) -> None:
        for _ in range(3 * len(self.tickets) + len(self.to_client)):
            self.write()
            while self.server.ready:
                self.server.finish(self.server.ready[0])
            self.read()
        assert not self.stream.in_flight
        assert self.stream.input_bytes == 0
        assert self.stream.free_window == 24
        expired = {ticket.tag for ticket in self.ended if isinstance(ticket.error, DeadlineExceeded)}
        assert not [tag for tag, _ in self.server.kept if tag in expired]
        assert sum(command.kind in INFERS for command in self.server.commands) == len(self.sums)
        for ticket in self.ended:
            self._check(ticket)

    def _check(self, ticket: TicketState) -> None:
        if ticket.error is not None:
            return
        outputs = ticket.outputs()
        if ticket.tag in self.fetched:
            name, expected_part = self.fetched[ticket.tag]
            np.testing.assert_array_equal(outputs[name], expected_part)
        else:
            expected = {"y": self.sums[ticket.tag] + 1, "z": 2 * self.sums[ticket.tag]}
            for name, array in outputs.items():
                np.testing.assert_array_equal(array, expected[name])


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=60, stateful_step_count=60)
