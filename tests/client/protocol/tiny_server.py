"""A small, pure server side of a stream: checks the client's commands, and runs tickets when a test says so.

Every model has the outputs y = sum of the inputs + 1 (also named why) and z = 2 * sum of the inputs. The inputs are
named x, h and u.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import datatype_from, numpy_dtype
from headrace.wire.errors import Code
from headrace.wire.frames import FRAME_BYTES, frame_items, parse_frame
from headrace.wire.tensors import Buffer, byte_count, from_wire, to_wire

NAMES = {"y": "y", "why": "y", "z": "z", "x": "x", "h": "h", "u": "u"}
INFERS = (pb.Command.INFER, pb.Command.INFER_SLICES)
Array = npt.NDArray[Any]


@dataclass(eq=False)
class Work:
    """A ticket as the server sees it."""

    command: pb.Command
    call: pb.Call = field(default_factory=pb.Call)
    inline: list[Array] = field(default_factory=list)
    sources: list[tuple[Work, str]] = field(default_factory=list)
    slices: list[tuple[slice, ...]] = field(default_factory=list)
    """The part of each source."""
    results: dict[str, Array] | None = None
    failed: bool = False

    @property
    def is_fetch(self) -> bool:
        return self.command.kind == pb.Command.FETCH


class TinyServer:
    """`receive` commands, `finish` or `fail` tickets that are `ready`, and send the `frames`."""

    def __init__(
        self, window: int = 16, max_message_bytes: int = 1 << 20, layouts: int = 1024, queue_bytes: int = 0
    ) -> None:
        self.window = window
        self.max_message_bytes = max_message_bytes
        self.queue_bytes = queue_bytes
        self.client_max_bytes = 4 << 20
        self.in_flight: dict[int, Work] = {}
        self.kept: dict[tuple[int, str], Work] = {}
        self.calls: dict[int, pb.Call] = {}
        self.commands: list[pb.Command] = []
        self.ordered = False
        self.draining = False
        self.version, self.fingerprint = "1", 0
        self.any_version = True
        """Whether it serves whichever version is named."""
        self._tags: set[int] = set()
        self._layouts: dict[bytes, int] = {}
        self._max_layouts = layouts
        self._frames: list[bytes] = []

    def hello(self) -> bytes:
        hello = pb.Hello(
            version="0.0",
            window=self.window,
            max_message_bytes=self.max_message_bytes,
            keep_bytes=1 << 28,
            keep_us=300_000_000,
            queue_bytes=self.queue_bytes,
        )
        return message(pb.Event(kind=pb.Event.HELLO, hello=hello))

    # From the client

    def receive(self, data: bytes) -> None:
        frame, tensors = parse_frame(data, pb.ClientFrame())
        assert len(data) <= self.max_message_bytes
        assert 1 <= len(frame.commands) <= frame_items(self.window)
        assert len(data) <= FRAME_BYTES or len(frame.commands) == 1
        at = 0
        for command in frame.commands:
            assert command.kind in INFERS or not command.tensors
            assert (command.kind == pb.Command.INFER_SLICES) == bool(command.slices)
            self._take(command, tensors[at : at + command.tensors])
            at += command.tensors
        assert at == len(tensors)
        assert len(self.in_flight) <= self.window

    def _take(self, command: pb.Command, tensors: Sequence[Buffer]) -> None:
        first = not self.commands
        self.commands.append(command)
        match command.kind:
            case pb.Command.INFER | pb.Command.INFER_SLICES:
                self._infer(command, tensors)
            case pb.Command.DEFINE:
                assert 1 <= command.call <= 1024
                self.calls[command.call] = command.define
            case pb.Command.FETCH:
                self._fetch(command)
            case pb.Command.RELEASE:
                call = self.calls_of(command.tag)
                for name in command.release.outputs or call.keep:
                    self.kept.pop((command.tag, NAMES[name]), None)
            case pb.Command.CANCEL:
                if command.tag in self.in_flight:
                    self.fail(command.tag, Code.CANCELLED, "cancelled")
            case pb.Command.OPEN:
                assert first
                self.ordered = command.open.ordered
                self.client_max_bytes = command.open.max_message_bytes

    def calls_of(self, tag: int) -> pb.Call:
        kept = {name for at, name in self.kept if at == tag}
        return pb.Call(keep=sorted(kept))

    def _admit(self, work: Work) -> None:
        tag = work.command.tag
        assert tag not in self._tags
        assert tag != 0
        self._tags.add(tag)
        self.in_flight[tag] = work

    def _infer(self, command: pb.Command, tensors: Sequence[Buffer]) -> None:
        call = self.calls[command.call]
        work = Work(command, call)
        self._admit(work)
        if self.draining:
            self.fail(command.tag, Code.UNAVAILABLE, "the server is draining", retryable=True)
            return
        if not self.any_version and call.version not in ("", self.version):
            self.fail(command.tag, Code.NOT_FOUND, f"model {call.model!r} has no version {call.version!r}")
            return
        data, tags = list(tensors), list(command.sources)
        takes: list[tuple[int, str]] = []
        for source in call.inputs:
            if source.HasField("inline"):
                datatype, shape = datatype_from(source.inline.datatype), tuple(source.inline.shape)
                tensor = data.pop(0)
                assert byte_count(datatype, shape) in (None, len(tensor))
                work.inline.append(from_wire(tensor, datatype, shape))
            elif source.HasField("zeros"):
                dtype = numpy_dtype(datatype_from(source.zeros.datatype))
                work.inline.append(np.zeros(tuple(source.zeros.shape), dtype))
            else:
                key = tags.pop(0), NAMES[source.reference.output]
                if key not in self.kept:
                    self.fail(command.tag, Code.FAILED_PRECONDITION, f"{key} is not kept")
                    return
                work.sources.append((self.kept[key], key[1]))
                takes += [key] if source.reference.take else []
        assert not data
        assert not tags
        assert len(command.slices) in (0, len(command.sources))
        assert not command.slices or any(part.slices for part in command.slices)
        for part in command.slices:
            work.slices.append(tuple(slice(each.start, each.stop) for each in part.slices))
        for key in takes:
            self.kept.pop(key, None)
        for name in (*call.keep, *call.keep_inputs):
            self.kept[command.tag, NAMES[name]] = work

    def _fetch(self, command: pb.Command) -> None:
        work = Work(command)
        self._admit(work)
        key = command.fetch.source, NAMES[command.fetch.output]
        if key in self.kept:
            work.sources.append((self.kept[key], key[1]))
        else:
            self.fail(command.tag, Code.NOT_FOUND, f"{key} is not kept")

    # For the test

    @property
    def ready(self) -> list[int]:
        """The tags whose sources have ended, in the order of admission."""
        return [
            tag
            for tag, work in self.in_flight.items()
            if all(source.results is not None or source.failed for source, _ in work.sources)
        ]

    def finish(self, tag: int) -> None:
        work = self.in_flight[tag]
        if any(source.failed for source, _ in work.sources):
            code = Code.NOT_FOUND if work.is_fetch else Code.FAILED_PRECONDITION
            self.fail(tag, code, "the source has failed")
            return
        inputs = [source.results[name] for source, name in work.sources if source.results]
        if not work.is_fetch:
            parts = zip(inputs, work.slices or [()] * len(inputs), strict=True)
            inputs = [array[part] for array, part in parts]
        if work.is_fetch:
            slices = [slice(part.start, part.stop) for part in work.command.fetch.slices]
            sent, kept = {work.command.fetch.output: inputs[0][tuple(slices)]}, {}
        else:
            total = sum(work.inline + inputs)
            work.results = {"y": np.asarray(total + 1), "z": np.asarray(2 * total)}
            work.results |= self._given(work, inputs)
            names = ["y", "z"] if work.call.all_outputs else work.call.outputs
            sent = {NAMES[name]: work.results[NAMES[name]] for name in names}
            keeps = (*work.call.keep, *work.call.keep_inputs)
            kept = {NAMES[name]: work.results[NAMES[name]] for name in keeps}
        self._done(tag, work, sent, kept)

    def _given(self, work: Work, referred: Sequence[Array]) -> dict[str, Array]:
        """The inputs by name."""
        inline, others = iter(work.inline), iter(referred)
        return {each.name: next(others if each.HasField("reference") else inline) for each in work.call.inputs}

    def _done(self, tag: int, work: Work, sent: dict[str, Array], kept: dict[str, Array]) -> None:
        kind = pb.Event.FETCHED if work.is_fetch else pb.Event.DONE
        number, events = self._layout(sent, kept)
        end = pb.Event(kind=kind, tag=tag, layout=number)
        end.waiting_us, end.queued_us, end.running_us = 1, 2, 3
        events.append(end)
        tensors = [bytes(to_wire(array)[2]) for array in sent.values()]
        data = message(*events, tensors=tensors)
        if len(data) > self.client_max_bytes:
            self._layouts.clear()
            text = f"{len(data)} bytes: keep it and fetch slices"
            self.fail(tag, Code.RESOURCE_EXHAUSTED, text, retryable=False)
            return
        del self.in_flight[tag]
        self._frames.append(data)

    def _layout(self, sent: dict[str, Array], kept: dict[str, Array]) -> tuple[int, list[pb.Event]]:
        layout = pb.Layout(sent=described(sent), kept=described(kept))
        if sent or kept:
            layout.version, layout.fingerprint = self.version, self.fingerprint
        key = layout.SerializeToString(deterministic=True)
        if not key:
            return 0, []
        if key in self._layouts:
            return self._layouts[key], []
        if len(self._layouts) >= self._max_layouts:
            self._layouts.clear()
        number = self._layouts[key] = len(self._layouts) + 1
        return number, [pb.Event(kind=pb.Event.LAYOUT, layout=number, define=layout)]

    def fail(self, tag: int, code: Code, text: str, *, retryable: bool = False) -> None:
        work = self.in_flight.pop(tag)
        work.failed = True
        for key in [key for key, kept in self.kept.items() if kept is work]:
            del self.kept[key]
        self._frames.append(message(failed(tag, code, text, retryable=retryable)))

    def drain(self) -> None:
        """Refuse new Infers from now on, and say so."""
        self.draining = True
        self._frames.append(message(pb.Event(kind=pb.Event.DRAINING, grace_us=1)))

    def frames(self) -> list[bytes]:
        """The messages to send, in order."""
        frames, self._frames = self._frames, []
        return frames


def described(arrays: dict[str, Array]) -> list[pb.Tensor]:
    described = []
    for name, array in arrays.items():
        datatype, shape, _ = to_wire(array)
        number = pb.Datatype.ValueType(datatype)
        described.append(pb.Tensor(name=name, datatype=number, shape=shape))
    return described


def failed(tag: int, code: Code, text: str, *, retryable: bool = False) -> pb.Event:
    failure = pb.Failure(code=pb.Code.ValueType(code), message=text, retryable=retryable)
    return pb.Event(kind=pb.Event.FAILED, tag=tag, failure=failure)


def message(*events: pb.Event, tensors: Sequence[bytes] = ()) -> bytes:
    return pb.ServerFrame(events=events, tensors=tensors).SerializeToString()
