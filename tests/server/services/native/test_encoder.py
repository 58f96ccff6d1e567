"""Events are encoded as messages, and those encoded by hand equal what protobuf encodes."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from headrace.server.core.calls import Call, Inline, bind
from headrace.server.core.events import Done, Outline
from headrace.server.core.quotas import Quota
from headrace.server.engine.tensors import OutputTensor
from headrace.server.services.native.encoder import Encoder
from headrace.server.services.native.layouts import Layouts
from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import Datatype
from tests.server.core.model_specs import grow, step

PLAN = bind(Call("grow", "", (Inline("x", Datatype.FP32, (4,)),), ("y",), False, ()), grow())
NO_OUTPUTS = bind(Call("grow", "", (Inline("x", Datatype.FP32, (4,)),), (), False, ()), grow())

seconds = st.integers(0, 2**40).map(lambda us: us / 2**20)
dones = st.lists(
    st.tuples(
        st.integers(1, 2**64 - 1), st.none() | st.integers(0, 70_000), st.sampled_from([0.0, 1.5]), seconds, seconds
    ),
    min_size=1,
    max_size=8,
)


def done(tag: int, elements: int | None, waiting: float, queued: float, running: float) -> Done:
    """A Done with one output of `elements` elements, or without an output."""
    data = bytes(4 * (elements or 0))
    sent = [] if elements is None else [OutputTensor(Datatype.FP32, (elements,), data)]
    return Done(tag, NO_OUTPUTS if elements is None else PLAN, sent, [], len(data), 0, waiting, queued, running)


@given(dones)
def test_a_done_is_encoded_as_protobuf_encodes_it(
    expected: Sequence[tuple[int, int | None, float, float, float]],
) -> None:
    message = Encoder(Layouts(Quota(32 << 20))).encode([done(*each) for each in expected])
    frame = pb.ServerFrame.FromString(message)
    assert frame.SerializeToString() == message
    layouts = {0: -1}
    tensors = iter(frame.tensors)
    decoded = []
    for event in frame.events:
        if event.kind == pb.Event.LAYOUT:
            (tensor,) = event.define.sent
            assert (tensor.name, tensor.datatype) == ("y", pb.FP32)
            layouts[event.layout] = tensor.shape[0]
            continue
        assert event.kind == pb.Event.DONE
        elements = layouts[event.layout]
        decoded.append((event.tag, elements, event.waiting_us, event.queued_us, event.running_us))
        assert elements < 0 or len(next(tensors)) == 4 * elements
    assert next(tensors, None) is None
    assert decoded == [
        (tag, -1 if elements is None else elements, *(int(time * 1e6) for time in times))
        for tag, elements, *times in expected
    ]


def test_a_layout_is_sent_once() -> None:
    encoder = Encoder(Layouts(Quota(32 << 20)))
    first, second = (pb.ServerFrame.FromString(encoder.encode([done(tag, 4, 0, 0, 0)])) for tag in (1, 2))
    assert [event.kind for event in first.events] == [pb.Event.LAYOUT, pb.Event.DONE]
    assert [event.kind for event in second.events] == [pb.Event.DONE]
    assert second.events[0].layout == first.events[0].layout


def test_a_kept_input_and_a_kept_output_of_one_shape_have_layouts_of_their_own() -> None:
    call = Call("step", "", (Inline("x", Datatype.FP32, (4,)),), (), False, ("y",), ("x",))
    plan = bind(call, step())
    encoder = Encoder(Layouts(Quota(32 << 20)))
    output, given = [(port, Outline(Datatype.FP32, (4,))) for port in plan.keep]
    for kept in ([output, given], [output], [given], []):
        frame = pb.ServerFrame.FromString(encoder.encode([Done(1, plan, [], kept, 0, 0, 0, 0, 0)]))
        described = [tensor.name for event in frame.events for tensor in event.define.kept]
        assert described == [port.name for port, _ in kept]
