"""Calls: a table with bounds, and descriptions that are checked against a model when they are used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.server.core.calls import (
    MAX_ZERO_BYTES,
    Call,
    Inline,
    Reference,
    Zeros,
    bind,
)
from headrace.server.core.specs import ModelSpec
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import HeadraceError, InvalidArgument, NotFound
from headrace.wire.limits import MAX_CALL_BYTES, MAX_CALLS, MAX_PORTS
from tests.server.core.model_specs import add, model, port, step
from tests.server.core.scenario import Scenario

FP32 = int(Datatype.FP32)
X = Inline("x", FP32, (4,))
GOOD = Call("step", "", (X,), (), False, ())
MIXED = model(
    "mixed",
    [port(0, "a", None, (2, 3)), port(1, "b|bee", 4), port(2, "text", None, datatype=Datatype.BYTES)],
    [port(0, "y", 4), port(1, "t", None, datatype=Datatype.BYTES), port(2, "z", None), port(3, "w", 2, 300)],
)


class TestCallsOfAStream:
    def use(self, world: Scenario, number: int, data: bytes = bytes(16)) -> list[str]:
        client = world.clients[0]
        world.core.infer(client.stream, 1, number, [data], world.core.charge(client.stream, 16), world.now)
        world.runs()
        return client.receives()

    def test_a_stream_defines_at_most_1024_calls(self) -> None:
        world = Scenario()
        client = world.client()
        for number in range(1, MAX_CALLS + 1):
            world.core.define(client.stream, number, GOOD, 10)
        assert MAX_CALLS == 1024
        assert client.receives() == []
        world.core.define(client.stream, 5000, GOOD, 10)
        assert client.receives() == ["failed 0 RESOURCE_EXHAUSTED"]
        assert "call 5000" in client.errors[0].message
        assert "1024" in client.errors[0].message
        assert not client.errors[0].retryable
        world.core.define(client.stream, 1024, GOOD, 10)
        assert self.use(world, 1024) == ["done 1"]
        assert self.use(world, 5000) == ["failed 1 INVALID_ARGUMENT"]

    def test_the_calls_of_a_stream_are_described_in_at_most_4_mib(self) -> None:
        world = Scenario()
        client = world.client()
        world.core.define(client.stream, 1, GOOD, MAX_CALL_BYTES - 10)
        world.core.define(client.stream, 2, GOOD, 10)
        assert client.receives() == []
        world.core.define(client.stream, 3, GOOD, 1)
        world.core.define(client.stream, 2, GOOD, 11)
        assert client.receives() == ["failed 0 RESOURCE_EXHAUSTED"] * 2
        assert f"with call 2 the descriptions of this stream take {MAX_CALL_BYTES + 1}" in client.errors[0].message
        world.core.define(client.stream, 1, GOOD, 5)
        world.core.define(client.stream, 3, GOOD, MAX_CALL_BYTES - 5)
        assert client.receives() == []
        assert self.use(world, 2) == ["failed 1 INVALID_ARGUMENT"], "the old call is not what the client asks for"
        assert "call 2 is not defined" in client.errors[1].message

    def test_a_call_cannot_have_the_number_zero(self) -> None:
        world = Scenario()
        client = world.client()
        world.core.define(client.stream, 0, GOOD, 10)
        assert client.receives() == ["failed 0 INVALID_ARGUMENT"]
        assert "number 0" in client.errors[0].message

    def test_a_number_may_be_defined_again(self) -> None:
        world = Scenario()
        client = world.client()
        world.core.define(client.stream, 7, replace(GOOD, outputs=("y",)), 10)
        world.core.infer(client.stream, 1, 7, [bytes(16)], world.core.charge(client.stream, 16), world.now)
        world.core.define(client.stream, 7, Call("grow", "", (Inline("x", FP32, (2,)),), (), True, ("y",)), 10)
        world.core.infer(client.stream, 2, 7, [bytes(8)], world.core.charge(client.stream, 8), world.now)
        world.core.define(client.stream, 7, replace(GOOD, model="none"), 10)
        world.core.infer(client.stream, 3, 7, [bytes(8)], world.core.charge(client.stream, 8), world.now)
        world.starts()
        first, second = world.part(1).plan, world.part(2).plan
        assert first is not None
        assert second is not None
        assert (first.spec.name, [each.name for each in first.outputs]) == ("step", ["y"])
        assert (second.spec.name, [each.name for each in second.keep]) == ("grow", ["y"])
        assert client.receives() == ["failed 3 NOT_FOUND"]

    def test_a_bad_call_is_rejected_when_it_is_used(self) -> None:
        world = Scenario()
        client = world.client()
        world.core.define(client.stream, 1, replace(GOOD, model="none"), 10)
        assert client.receives() == []
        assert self.use(world, 1) == ["failed 1 NOT_FOUND"]
        assert "no model 'none'" in client.errors[1].message

    def test_no_version_means_the_newest_one_at_admission(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1)
        world.core.models.add(replace(step(), version="10"))
        client.infer(2)
        world.core.models.add(replace(step(), version="9"))
        client.infer(3)
        world.starts()
        assert [world.running[tag].spec.version for tag in (1, 2)] == ["1", "10"]
        world.end(2)
        assert world.starts() == [3]
        assert world.running[3].spec.version == "10"
        assert world.part(3).plan is not world.part(1).plan

    def test_all_inferences_of_a_call_share_one_plan(self) -> None:
        world = Scenario(slots=2)
        client = world.client()
        client.infer(1)
        client.infer(2)
        world.starts()
        assert world.part(1).plan is world.part(2).plan


class TestBind:
    def call(self, **changes: object) -> Call:
        inputs = (Reference("a", "y", True), Inline("bee", FP32, (4,)), Inline("text", 14, (3,)))
        return replace(Call("mixed", "", inputs, ("z", "y"), False, ("w", "t", "y")), **changes)  # type: ignore[arg-type]

    def test_a_plan_holds_everything_that_all_inferences_of_a_call_share(self) -> None:
        plan = bind(self.call(), MIXED)
        assert plan.spec is MIXED
        assert [(each.port.name, each.shape, each.nbytes) for each in plan.inline] == [
            ("b", (4,), 16),
            ("text", (3,), None),
        ]
        assert plan.sizes == (16, None)
        assert plan.shapes == ((1, (4,)), (2, (3,)))
        assert [(each.port.name, each.output, each.take) for each in plan.references] == [("a", "y", True)]
        assert [each.name for each in plan.outputs] == ["z", "y"]
        assert [each.name for each in plan.keep] == ["w", "t", "y"]
        assert plan.sent_bytes is None
        assert plan.kept_bytes == (2400, 0, 16)
        assert bind(self.call(outputs=("w", "y")), MIXED).sent_bytes == 2416
        assert bind(self.call(outputs=("t",)), MIXED).sent_bytes is None

    def test_a_call_names_its_outputs_exactly(self) -> None:
        assert bind(self.call(outputs=()), MIXED).outputs == ()
        assert bind(self.call(outputs=()), MIXED).sent_bytes == 0
        assert bind(self.call(outputs=(), all_outputs=True), MIXED).outputs == MIXED.outputs

    def test_a_call_may_have_inputs_of_zeros(self) -> None:
        plan = bind(self.call(inputs=(Zeros("a", FP32, (5, 2)), *self.call().inputs[1:])), MIXED)
        assert [(each.port.name, each.shape, each.nbytes) for each in plan.zeros] == [("a", (5, 2), 40)]
        assert plan.references == ()
        assert plan.sizes == (16, None)
        assert set(plan.shapes) == {(0, (5, 2)), (1, (4,)), (2, (3,))}

    def wrong(self, error: type[HeadraceError], *culprits: str, spec: ModelSpec = MIXED, **changes: object) -> None:
        with pytest.raises(error) as raised:
            bind(self.call(**changes), spec)
        assert type(raised.value) is error
        for culprit in culprits:
            assert culprit in raised.value.message

    def test_a_call_with_wrong_inputs_is_rejected(self) -> None:
        a, b, text = self.call().inputs
        self.wrong(InvalidArgument, "input 'text' of model 'mixed' is missing", inputs=(a, b))
        self.wrong(
            InvalidArgument, "no input 'none'; it has 'a', 'b', 'text'", inputs=(a, b, text, Inline("none", 11, ()))
        )
        self.wrong(InvalidArgument, "input 'bee' is given twice", inputs=(a, b, b, text))
        self.wrong(InvalidArgument, "'b' is given twice, first as 'bee'", inputs=(b, Inline("b", 11, (4,)), a, text))
        self.wrong(InvalidArgument, f"{MAX_PORTS + 1} inputs", inputs=(a,) * (MAX_PORTS + 1))
        for wrong, culprits in (
            (Inline("a", 12, (1, 2)), ("input 'a' has datatype FP64", "FP32")),
            (Inline("a", 0, (1, 2)), ("input 'a'", "number 0")),
            (Inline("a", 99, (1, 2)), ("input 'a'", "number 99")),
            (Inline("a", 11, (1, 4)), ("input 'a' has shape [1, 4]", "FP32[?,2..3]")),
            (Inline("a", 11, (1, 1)), ("input 'a' has shape [1, 1]", "FP32[?,2..3]")),
            (Inline("a", 11, (2,)), ("input 'a' has shape [2]", "FP32[?,2..3]")),
            (Inline("a", 11, (-1, 2)), ("input 'a'", "negative dimension -1")),
            (Inline("a", 11, (2**62, 2)), ("input 'a'", "overflow")),
            (Inline("a", 11, (1,) * 33), ("input 'a'", "33 dimensions")),
            (Zeros("a", 12, (1, 2)), ("input 'a' has datatype FP64", "FP32")),
            (Zeros("a", 11, (1, 4)), ("input 'a' has shape [1, 4]", "FP32[?,2..3]")),
            (Zeros("a", 11, (MAX_ZERO_BYTES // 8 + 1, 2)), (str(MAX_ZERO_BYTES + 8), str(MAX_ZERO_BYTES))),
        ):
            self.wrong(InvalidArgument, *culprits, inputs=(wrong, b, text))
        self.wrong(InvalidArgument, "input 'text' has datatype BYTES", inputs=(a, b, Zeros("text", 14, (3,))))
        bind(self.call(inputs=(Zeros("a", FP32, (MAX_ZERO_BYTES // 8, 2)), b, text)), MIXED)

    def test_a_call_with_wrong_outputs_is_rejected(self) -> None:
        self.wrong(NotFound, "no output 'none'; it has 'y', 't', 'z', 'w'", outputs=("y", "none"))
        self.wrong(NotFound, "no output 'none'", keep=("none",))
        self.wrong(InvalidArgument, "output 'y' is named twice in outputs", outputs=("y", "z", "y"))
        self.wrong(InvalidArgument, "output 'y' is named twice in keep", keep=("y", "z", "y"))
        self.wrong(InvalidArgument, "also names output 'y'", outputs=("y",), all_outputs=True)
        self.wrong(InvalidArgument, f"{MAX_PORTS + 1} outputs", outputs=("y",) * (MAX_PORTS + 1))
        self.wrong(InvalidArgument, f"{MAX_PORTS + 1} keep", keep=("y",) * (MAX_PORTS + 1))

    def test_messages_about_calls_are_short_whatever_the_names(self) -> None:
        long = "n" * 1_000_000
        many = model("m" * 1000, [port(at, f"{long}{at}", 4) for at in range(50)], [port(0, "y", 4)])
        for error, call in (
            (InvalidArgument, Call("", "", (Inline(long, 11, ()),), (), False, ())),
            (InvalidArgument, Call("", "", (), (), False, ())),
        ):
            with pytest.raises(error) as raised:
                bind(call, many)
            assert len(raised.value.message) < 1000


def test_an_output_may_be_both_sent_and_kept() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, "add", outputs=["y"], keep=["y"])
    world.starts()
    world.end(1)
    assert client.receives() == ["done 1"]
    assert client.live == {1}
    assert add().outputs[0].name == "y"
