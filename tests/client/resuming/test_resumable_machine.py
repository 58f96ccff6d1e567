"""However often connections break: each ticket ends once, rightly, and nothing is sent again that nobody needs."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.client.protocol.ticket_state import TicketState
from headrace.client.resuming import journal
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Cancelled, Code, FailedPrecondition, Internal, NotFound
from tests.client.protocol.tiny_server import INFERS
from tests.client.resuming.house import House

WINDOW = 12


class Streams(RuleBasedStateMachine):
    """The model is the sum of each ticket's inputs, and which tickets may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.tickets: list[TicketState] = []
        self.sums: dict[int, npt.NDArray[Any]] = {}
        self.sources: dict[int, list[int]] = {}
        self.slices: dict[int, slice] = {}
        self.spoiled: set[int] = set()
        """Tickets that a server has failed, that were cancelled, or that refer to an output which another one took."""
        self.taken: set[tuple[int, str]] = set()
        self.kept: dict[tuple[int, str], npt.NDArray[Any]] = {}
        """What tickets keep, or have kept, by name."""
        self.by_tag: dict[int, TicketState] = {}
        self.fetched: dict[int, str] = {}
        self.cancelled_early: dict[int, int] = {}
        """Tickets that were cancelled, and how many servers there were."""

    @initialize(ordered=st.booleans(), coarse=st.booleans())
    def open(self, ordered: bool, coarse: bool) -> None:
        self.coarse = coarse
        """Whether messages arrive all at once, so that more happens in as many steps."""
        self.house = House(window=WINDOW, ordered=ordered, max_message_bytes=70_000)
        self.stream = self.house.stream
        self.house.connect()

    @precondition(lambda self: self.stream.free_window > 0)
    @rule(data=st.data(), size=st.sampled_from([0, 1, 5, 5_000]))
    def submit(self, data: st.DataObject, size: int) -> None:
        value = np.full(size, len(self.tickets), np.float32)
        inputs: dict[str, Any] = {"x": value}
        total, sources, doubtful = value, [], False
        keepers = [key for key, array in self.kept.items() if self._may_refer(*key) and len(array) >= size]
        for name in data.draw(st.sampled_from([(), ("u",), ("u",), ("u", "v")])):
            if not keepers:
                break
            key = tag, output = data.draw(st.sampled_from(keepers))
            whole, take = self.kept[key], data.draw(st.booleans())
            first = data.draw(st.integers(0, len(whole) - size))
            slices = ((first, first + size),) if len(whole) > size or data.draw(st.booleans()) else ()
            inputs[name] = self.house.refer(self.by_tag[tag], output, take=take, slices=slices)
            total = total + whole[first : first + size]
            sources.append(tag)
            doubtful |= key in self.taken
            if take:
                self.taken.add(key)
        keep = ("z",) if data.draw(st.booleans()) else ()
        keep_inputs = ("x",) if data.draw(st.booleans()) else ()
        outputs = data.draw(st.sampled_from([None, ["y"], []]))
        ticket = self.house.submit(inputs, keep, outputs=outputs, keep_inputs=keep_inputs)
        self.tickets.append(ticket)
        self.by_tag[ticket.tag] = ticket
        for each in (*keep, *keep_inputs):
            self.kept[ticket.tag, each] = 2 * total if each == "z" else value
        self.sums[ticket.tag], self.sources[ticket.tag] = total, sources
        if doubtful:
            self.spoiled.add(ticket.tag)

    def _may_refer(self, tag: int, output: str) -> bool:
        released = self.by_tag[tag]._released
        return not (released and output in released)

    @precondition(lambda self: self.stream.free_window > 0)
    @rule(data=st.data())
    def fetch(self, data: st.DataObject) -> None:
        keepers = [key for key in self.kept if self._may_refer(*key)]
        if not keepers:
            return
        key = tag, output = data.draw(st.sampled_from(keepers))
        half = len(self.kept[key]) // 2
        slices = ((0, half),) if data.draw(st.booleans()) else ()
        ticket = self.house.fetch(self.by_tag[tag], output, slices=slices)
        self.tickets.append(ticket)
        self.fetched[ticket.tag] = output
        self.sums[ticket.tag], self.sources[ticket.tag] = self.kept[key], [tag]
        self.slices[ticket.tag] = slice(0, half) if slices else slice(None)
        if key in self.taken:
            self.spoiled.add(ticket.tag)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.stream.release(data.draw(st.sampled_from(self.tickets)), ())

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.tickets))
        if not ticket.ended:
            self.spoiled.add(ticket.tag)
            self.cancelled_early.setdefault(ticket.tag, len(self.house.servers))
        self.stream.cancel(ticket)
        self.house.ended += self.stream.take_ended()

    @precondition(lambda self: not self.coarse and self.house.connected)
    @rule()
    def write(self) -> None:
        self.house.write()

    @precondition(lambda self: not self.coarse and self.house.connected and self.house.server.ready)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        server = self.house.server
        ready = server.ready[:1] if self.house.ordered else server.ready
        if not self.house.ordered or ready[0] == next(iter(server.in_flight)):
            server.finish(data.draw(st.sampled_from(ready)))

    @precondition(
        lambda self: not self.coarse and self.house.connected and self.house.server.in_flight and not self.house.ordered
    )
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(sorted(self.house.server.in_flight)))
        self.house.server.fail(tag, Code.INTERNAL, "failed")
        self.spoiled.add(tag)

    @precondition(lambda self: not self.coarse and self.house.connected)
    @rule()
    def read(self) -> None:
        self.house.read()

    @precondition(lambda self: self.coarse and self.house.connected)
    @rule()
    def run(self) -> None:
        """All that is under way arrives."""
        self.house.run()

    @precondition(lambda self: self.house.connected and len(self.house.servers) < 12)
    @rule(crashed=st.booleans())
    def lose(self, crashed: bool) -> None:
        self.house.lose(crashed=crashed)

    @precondition(lambda self: not self.coarse and self.house.connected and not self.house.server.draining)
    @rule()
    def drain(self) -> None:
        self.house.server.drain()

    @precondition(lambda self: not self.house.connected)
    @rule()
    def connect(self) -> None:
        self.house.connect()

    @invariant()
    def nothing_is_lost_or_ends_twice(self) -> None:
        if not hasattr(self, "house"):
            return
        assert self.stream.error is None
        ended = self.house.ended
        assert len({id(ticket) for ticket in ended}) == len(ended)
        for ticket in ended:
            assert ticket.ended
        assert len(self.stream.in_flight) <= WINDOW
        held = sum(bool(entry.held) for entry in self.stream.journal.entries.values())
        assert len(self.stream.journal.entries) <= (held + WINDOW) * (journal.MAX_LINKS + WINDOW)
        for server in self.house.servers:
            tags = self.house.tags(server)
            assert len(set(tags)) == len(tags)

    def teardown(self) -> None:
        if not hasattr(self, "house"):
            return
        house = self.house
        for _ in range(30):
            if not house.connected or house.server.draining:
                house.resume()
            house.run()
        assert not self.stream.in_flight, self.stream
        assert {id(ticket) for ticket in house.ended} == {id(ticket) for ticket in self.tickets}
        for ticket in sorted(self.tickets, key=lambda each: each.tag):
            self._check(ticket)
        if house.ordered:
            tags = [ticket.tag for ticket in house.ended if ticket.call]
            assert tags == sorted(tags)
        self._check_commands()
        for ticket in self.tickets:
            self.stream.release(ticket, ())
        assert not self.stream.journal.entries
        assert not self.stream.journal.bytes
        assert not self.stream.journal._used

    def _check(self, ticket: TicketState) -> None:
        if any(source in self.spoiled for source in self.sources[ticket.tag]):
            self.spoiled.add(ticket.tag)
        if ticket.error is not None:
            # Several breaks in a row while it, or its source, was in flight fail a ticket, whatever it does.
            if "while this was in flight" in ticket.error.message:
                self.spoiled.add(ticket.tag)
            assert ticket.tag in self.spoiled, ticket
            assert isinstance(ticket.error, Cancelled | FailedPrecondition | NotFound | Internal)
            return
        outputs = ticket.outputs()
        total = self.sums[ticket.tag]
        if ticket.call is None:
            np.testing.assert_array_equal(outputs[self.fetched[ticket.tag]], total[self.slices[ticket.tag]])
            return
        wanted = ticket.call.outputs
        assert list(outputs) == list(("y", "z") if wanted is None else wanted)
        for name, array in outputs.items():
            np.testing.assert_array_equal(array, {"y": total + 1, "z": 2 * total}[name])

    def _check_commands(self) -> None:
        for at, server in enumerate(self.house.servers):
            infers = [command for command in server.commands if command.kind in INFERS]
            for command in infers:
                # What was cancelled before this server was there is not sent to it.
                assert self.cancelled_early.get(command.tag, at + 1) > at or _keeps(server.calls[command.call])


def _keeps(call: pb.Call) -> bool:
    return bool(call.keep or call.keep_inputs)


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=int(os.environ.get("HEADRACE_EXAMPLES", "80")), stateful_step_count=60)
