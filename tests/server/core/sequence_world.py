"""Clients that send the steps of sequences, and a runtime whose variables remember which tickets have run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from headrace.server.core.calls import Call, Inline
from headrace.server.core.core import Core
from headrace.server.core.defined_calls import DefinedCall
from headrace.server.core.engine_api import Ended, Part, Run
from headrace.server.core.events import Done, Failed
from headrace.server.core.limits import Limits
from headrace.server.core.sequences import NO_STEP, Step
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import Stream, Ticket
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import HeadraceError
from tests.server.core.model_specs import model, outputs_of, port

ENDED = "; begin a new one with sequence_start"
"""How an error of a sequence that has ended ends."""


@dataclass(frozen=True)
class Trace:
    """What the variables of a model hold: the tags of the tickets that have run, in order."""

    tags: tuple[int, ...] = ()
    nbytes: int = 16


class Running(NamedTuple):
    run: Run
    loaded: tuple[int, ...]


def recurrent(slots: int = 2, version: str = "1") -> ModelSpec:
    """x: f32[4] -> y: f32[4], with variables that belong to sequences."""
    spec = model("m", [port(0, "x", 4)], [port(0, "y", 4)], slots=slots, version=version)
    return replace(spec, has_variables=True, sequences=True)


class SequenceWorld:
    """Tags are unique in a world. `ends` has "done" or the code of a failure for each, `loaded` what its run began
    with."""

    def __init__(self, *specs: ModelSpec, limits: Limits | None = None) -> None:
        self.core = Core(limits or Limits())
        self.now = 100.0
        for spec in specs or (recurrent(),):
            self.core.models.add(spec)
        self.running: dict[int, Running] = {}
        self.loaded: dict[int, tuple[int, ...]] = {}
        self.specs: dict[int, ModelSpec] = {}
        self.ends: dict[int, str] = {}
        self.errors: dict[int, HeadraceError] = {}
        self.state_bytes = 16
        self.streams: list[Stream] = []
        self._calls: dict[str, DefinedCall] = {}

    def stream(self, *, window: int = 64) -> Stream:
        """A stream of the Open Inference Protocol."""
        stream = self.core.open_stream(len(self.streams), unary=True, window=window)
        self.core.open(stream, True, (1 << 31) - 1)
        self.streams.append(stream)
        return stream

    def send(
        self,
        stream: Stream,
        tag: int,
        sequence: int | str,
        flags: str = "",
        *,
        timeout: float = 0,
        version: str = "",
        wrong: bool = False,
        name: str = "m",
        client: str | None = None,
    ) -> None:
        """A request; `flags` are "start", "end", both, or none."""
        step = Step(sequence, "start" in flags, "end" in flags, client) if sequence or flags else NO_STEP
        call = self._calls.setdefault(
            name + "/" + version,
            DefinedCall(Call(name, version, (Inline("x", Datatype.FP32, (4,)),), ("y",), False, ()), 100),
        )
        inline = [bytes(12 if wrong else 16)]
        charge = self.core.charge(stream, 16)
        self.core.infer(stream, tag, call, inline, charge, self.now, timeout=timeout, step=step)

    def unary(
        self, tag: int, sequence: int | str, flags: str = "", *, timeout: float = 0, wrong: bool = False
    ) -> Stream:
        """A unary call of its own."""
        stream = self.core.open_stream(-tag, unary=True)
        self.core.open(stream, False, (1 << 31) - 1)
        self.streams.append(stream)
        self.send(stream, tag, sequence, flags, timeout=timeout, wrong=wrong)
        return stream

    def starts(self) -> list[int]:
        """Let the core decide. Returns the tags of the runs that begin."""
        found: list[int] = []
        for run in self.core.decide(self.now).starts:
            (part,) = run.parts
            assert isinstance(part, Ticket)
            held = part.variables
            assert held is None or isinstance(held, Trace)
            self.loaded[part.tag] = held.tags if held is not None else ()
            self.specs[part.tag] = run.spec
            self.running[part.tag] = Running(run, self.loaded[part.tag])
            found.append(part.tag)
        return found

    def end(self, tag: int, error: HeadraceError | None = None) -> None:
        """A run ends."""
        run, loaded = self.running.pop(tag)
        if error is not None:
            self.core.run_ended(Ended(run, error=error), error, self.now)
            return
        (part,) = run.parts
        sent, kept = outputs_of(part)
        held = Trace((*loaded, tag), self.state_bytes) if part.wants_variables else None
        self.core.run_ended(Ended(run, [sent], [kept], variables=held), None, self.now)

    def runs(self) -> list[int]:
        """Run everything that can run. Returns the tags in the order of their starts."""
        order: list[int] = []
        while started := self.starts():
            order += started
            for tag in started:
                self.end(tag)
        self.read()
        return order

    def read(self) -> None:
        """Every client reads all of its answers."""
        for stream in tuple(self.streams):
            while events := stream.take():
                self.core.handed_off(stream, events, self.now)
                self.core.flushed(stream)
                for event in events:
                    assert event.tag not in self.ends, f"ticket {event.tag} ended twice"
                    if isinstance(event, Failed):
                        self.ends[event.tag] = event.error.code.name
                        self.errors[event.tag] = event.error
                    else:
                        assert isinstance(event, Done)
                        self.ends[event.tag] = "done"

    def after(self, seconds: float) -> list[int]:
        self.now += seconds
        return self.starts()

    def reload(self, spec: ModelSpec | None = None) -> None:
        self.core.models.add(spec or recurrent())

    def message(self, tag: int) -> str:
        return self.errors[tag].message

    @property
    def charged(self) -> int:
        return self.core.accounts.sequences.used


def part_of(world: SequenceWorld, tag: int) -> Part:
    return world.running[tag].run.parts[0]
