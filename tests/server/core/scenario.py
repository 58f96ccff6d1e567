"""A small language for scenarios: clients that send commands, a runtime that obeys, a clock that stands still.

    world = Scenario()
    alice = world.client()
    alice.infer(1, keep=["y"])
    alice.infer(2, x="take 1.y")      # the input x is output y of ticket 1, taken
    assert world.starts() == [1]
    world.end(1)
    assert world.starts() == [2]
    assert alice.receives() == ["done 1"]

Tags name runs, so the clients of a scenario should use different ones.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

from headrace.server.core.calls import Call, Inline, Reference
from headrace.server.core.core import Core
from headrace.server.core.decision import Decision
from headrace.server.core.engine_api import Ended, Part, Run, Slices
from headrace.server.core.events import Done, Event, Failed, Fetched
from headrace.server.core.limits import Limits
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import Stream, Ticket
from headrace.wire.dtypes import ITEMSIZE
from headrace.wire.errors import HeadraceError
from tests.server.core.model_specs import Shape, add, grow, outputs_of, shape_of, step

Times = tuple[float, float, float]


class Scenario:
    def __init__(self, *models: ModelSpec, slots: int = 1, limits: Limits | None = None) -> None:
        self.core = Core(limits or Limits())
        self.now = 100.0
        self.clients: list[Client] = []
        self.running: dict[int, Run] = {}
        """Started runs that have not ended, by the tags of their tickets, including runs that were stopped."""
        self.batches: list[list[int]] = []
        """The tags of the tickets of each run that the last decision has started."""
        self.stopping: list[int] = []
        """Tags of tickets whose runs were to be stopped, in order."""
        self.unloaded: list[ModelSpec] = []
        """Models that were to be freed, in order."""
        self.specs = {spec.name: spec for spec in models or (step(slots), add(slots), grow(slots))}
        for spec in self.specs.values():
            self.core.models.add(spec)

    def client(
        self,
        owner: Hashable = "",
        *,
        ordered: bool = False,
        max_message: int = 0,
        unary: bool = False,
        window: int = 0,
    ) -> Client:
        """Open a stream. Hello has been received. One of another protocol is `unary`, and has a `window` maybe."""
        client = Client(self, owner, unary=unary, window=window)
        self.clients.append(client)
        if not unary:
            client.receives()
        if ordered or max_message:
            self.core.open(client.stream, ordered, max_message)
        return client

    def decide(self) -> Decision:
        """Let the core decide, and do what it says."""
        decision = self.core.decide(self.now)
        for run in decision.stops:
            to_stop = [tag for tag, other in self.running.items() if other is run]
            assert to_stop, f"{run} has ended and was to be stopped"
            self.stopping += to_stop
        self.unloaded += decision.unload
        self.batches = [self._tags(run) for run in decision.starts]
        for tags, run in zip(self.batches, decision.starts, strict=True):
            self.running.update(dict.fromkeys(tags, run))
        return decision

    def starts(self) -> list[int]:
        """Let the core decide. Returns the tags of the tickets that it starts."""
        self.decide()
        return [tag for tags in self.batches for tag in tags]

    def settled(self) -> Decision:
        """A decision that starts nothing."""
        decision = self.decide()
        assert self.batches == []
        return decision

    def end(
        self,
        tag: int,
        error: HeadraceError | None = None,
        *,
        times: Times = (0, 0, 0),
        restoring: bool = False,
        failures: Mapping[int, HeadraceError] | None = None,
        **sizes: int,
    ) -> None:
        """The runtime says that the run of a ticket has ended. `restoring`: and has spoiled its slot. `failures` are
        the tickets whose parts of it have failed.

        `sizes` are those of dynamic outputs: unless given the rows of a ticket that may share a run, or 4.
        """
        run = self.running[tag]
        self.running = {tag: other for tag, other in self.running.items() if other is not run}
        if error is not None:
            self.core.run_ended(Ended(run, error=error, restoring=restoring), error, self.now)
            return
        results = [outputs_of(part, sizes) for part in run.parts]
        sent, kept = [sent for sent, _ in results], [kept for _, kept in results]
        failed: dict[int, HeadraceError] = {}
        for position, part in enumerate(run.parts):
            if failures and isinstance(part, Ticket) and part.tag in failures:
                failed[position] = failures[part.tag]
                sent[position], kept[position] = [], []
        self.core.run_ended(Ended(run, sent, kept, times, failures=failed), None, self.now)

    def part(self, tag: int) -> Part:
        """What a running ticket has brought to its run."""
        return next(part for part in self.running[tag].parts if isinstance(part, Ticket) and part.tag == tag)

    def runs(self) -> list[int]:
        """Run everything that can run. Returns the tags in the order of their starts."""
        order: list[int] = []
        while started := self.starts():
            order += started
            for tag in started:
                if tag in self.running:
                    self.end(tag)
        return order

    def take(self, stream: Stream) -> list[Event]:
        """The events of the next frame, handed to the transport."""
        events = stream.take()
        self.core.handed_off(stream, events, self.now)
        return events

    def after(self, seconds: float) -> list[int]:
        """Time passes. Returns what starts then."""
        self.now += seconds
        return self.starts()

    def idle(self) -> list[int]:
        """The event loop has been idle for a while. Returns what starts then."""
        self.core.idle()
        return self.starts()

    @staticmethod
    def _tags(run: Run) -> list[int]:
        tags = [part.tag for part in run.parts if isinstance(part, Ticket) and part.run is run]
        assert len(tags) == len(run.parts) > 0, "a run of no live ticket was started"
        return tags


class Client:
    def __init__(self, world: Scenario, owner: Hashable, *, unary: bool, window: int) -> None:
        self.world = world
        self.stream: Stream = world.core.open_stream(owner, unary=unary, window=window, now=world.now)
        self.errors: dict[int, HeadraceError] = {}
        """What the last Failed of each tag said."""
        self.events: dict[int, Event] = {}
        """The last terminal event of each tag."""
        self._numbers: dict[Call, int] = {}

    def infer(
        self,
        tag: int,
        name: str = "step",
        *,
        outputs: Sequence[str] = (),
        all_outputs: bool = False,
        keep: Sequence[str] = (),
        keep_inputs: Sequence[str] = (),
        timeout: float = 0.0,
        queue_timeout: float = 0.0,
        priority: int = 0,
        tensors: Sequence[bytes] | None = None,
        slices: Sequence[Slices] | None = None,
        **inputs: str | Shape,
    ) -> None:
        """Infer, with a message of its own. An input is inline unless it is `"TAG.output"` or `"take TAG.output"`.

        `"TAG.output[1:3,0:2]"` is a part of it. A shape makes a dynamic input as large as that.
        """
        world = self.world
        spec = world.specs[name]
        sources: list[int] = []
        parts: list[Slices] = []
        given: list[Inline | Reference] = []
        data: list[bytes] = []
        for each in spec.inputs:
            value = inputs.pop(each.name, None)
            if isinstance(value, str):
                take, reference = value.startswith("take "), value.removeprefix("take ")
                reference, _, part = reference.partition("[")
                source, output = reference.split(".")
                parts.append(_slices(part))
                given.append(Reference(each.name, output, take))
                sources.append(int(source))
            else:
                shape = value if value is not None else shape_of(each, {})
                given.append(Inline(each.name, each.datatype, shape))
                data.append(bytes(math.prod(shape) * ITEMSIZE[each.datatype]))
        assert not inputs, f"model {name} has no such inputs: {inputs}"
        number = self.define(Call(name, "", tuple(given), tuple(outputs), all_outputs, tuple(keep), tuple(keep_inputs)))
        parts = parts if any(parts) else []
        inline = data if tensors is None else tensors
        charge = world.core.charge(self.stream, sum(map(len, inline)))
        world.core.infer(
            self.stream,
            tag,
            number,
            inline,
            charge,
            world.now,
            sources=sources,
            slices=parts if slices is None else slices,
            timeout=timeout,
            queue_timeout=queue_timeout,
            priority=priority,
        )

    def define(self, call: Call) -> int:
        number = self._numbers.get(call)
        if number is None:
            number = self._numbers[call] = len(self._numbers) + 1
            self.world.core.define(self.stream, number, call, 100)
        return number

    def fetch(self, tag: int, source: str, *slices: tuple[int, int]) -> None:
        """Fetch `"TAG.output"`."""
        of, output = source.split(".")
        self.world.core.fetch(self.stream, tag, int(of), output, slices, self.world.now)

    def release(self, tag: int, *outputs: str) -> None:
        self.world.core.release(self.stream, tag, outputs)

    def cancel(self, tag: int) -> None:
        self.world.core.cancel(self.stream, tag, self.world.now)

    def half_close(self) -> None:
        self.world.core.half_close(self.stream)

    def vanish(self) -> None:
        self.world.core.abandon(self.stream, self.world.now)

    def receives(self) -> list[str]:
        """Read everything that there is to read. A failure is `"failed TAG CODE"`."""
        received: list[str] = []
        while events := self.world.take(self.stream):
            self.world.core.flushed(self.stream)
            received += [self._received(event) for event in events]
        return received

    def _received(self, event: Event) -> str:
        match event:
            case Done():
                self.events[event.tag] = event
                return f"done {event.tag}"
            case Fetched():
                self.events[event.tag] = event
                return f"fetched {event.tag}"
            case Failed():
                self.events[event.tag] = event
                self.errors[event.tag] = event.error
                return f"failed {event.tag} {event.error.code.name}"
            case _:
                return type(event).__name__.lower()

    @property
    def live(self) -> set[int]:
        """The tags that are taken."""
        return set(self.stream.tickets)


def _slices(text: str) -> Slices:
    """`1:3,0:2]` as slices."""
    pairs = [each.split(":") for each in text.removesuffix("]").split(",") if each]
    return tuple((int(start), int(stop)) for start, stop in pairs)


def infer_many(client: Client, *tags: int, rows: int = 1, priority: int = 0, timeout: float = 0.0) -> None:
    """Infers of the model `many`, each with `rows` rows."""
    for tag in tags:
        client.infer(tag, "many", x=(rows,), priority=priority, timeout=timeout)


def batches(world: Scenario) -> list[list[int]]:
    """Run everything that can run. Returns the tags of each run."""
    found: list[list[int]] = []
    while world.starts():
        found += world.batches
        for tags in world.batches:
            world.end(tags[0])
    return found
