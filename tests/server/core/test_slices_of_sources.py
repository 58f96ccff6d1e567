"""Slices of sources: an input may be a slice of a kept output along its leading axes."""

from __future__ import annotations

import pytest

from headrace.server.core.engine_api import Ended
from headrace.server.core.references import TOO_MANY_SLICES
from headrace.server.core.specs import Port
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import FailedPrecondition, InvalidArgument
from tests.server.core.model_specs import FakeTensor, many, model, port
from tests.server.core.scenario import Scenario


def world() -> Scenario:
    """find: boxes of any number, a fixed table, something of any rank; crop takes one box, part any."""
    anything = Port(2, ("any",), Datatype.FP32, None)
    find = model("find", [port(0, "x", 4)], [port(0, "boxes", None, 3), port(1, "table", 6, 3), anything])
    crop = model("crop", [port(0, "box", 1, 3)], [port(0, "y", 4)], slots=8)
    two = model("two", [port(0, "a", None, 3), port(1, "b", None, 2)], [port(0, "y", 4)])
    return Scenario(find, crop, two, many())


def test_each_row_of_one_output_feeds_a_run_of_its_own() -> None:
    scene = world()
    client = scene.client()
    client.infer(1, "find", keep=["boxes"])
    for row in range(3):
        client.infer(2 + row, "crop", box=f"1.boxes[{row}:{row + 1}]")
    assert scene.starts() == [1]
    scene.end(1, boxes=3)
    assert scene.starts() == [2, 3, 4]
    boxes = client.stream.tickets[1].own[0].tensor
    for tag in (2, 3, 4):
        (tensor,) = scene.part(tag).references
        assert isinstance(tensor, FakeTensor)
        assert tensor.whole is boxes
        assert tensor.shape == (1, 3)
        scene.end(tag)
    assert client.receives() == [f"done {tag}" for tag in (1, 2, 3, 4)]
    assert client.stream.tickets[1].own[0].holders == 1


def test_several_axes_may_be_cut_and_each_source_in_its_own_way() -> None:
    scene = world()
    client = scene.client()
    client.infer(1, "find", keep=["boxes", "table"])
    client.infer(2, "two", a="1.boxes", b="take 1.table[2:6,1:3]")
    client.infer(3, "two", a="1.boxes[0:0]", b="1.boxes[1:1,0:2]")
    assert scene.starts() == [1]
    scene.end(1)
    assert scene.starts() == [3]
    assert [each.shape for each in scene.part(3).references] == [(0, 3), (0, 2)]
    scene.end(3)
    assert scene.starts() == [2]
    assert [each.shape for each in scene.part(2).references] == [(4, 3), (4, 2)]
    scene.end(2)
    assert set(client.stream.tickets[1].own) == {0}, "taking a slice releases the whole"


@pytest.mark.parametrize("known", [False, True], ids=["before its run", "after its run"])
@pytest.mark.parametrize(
    ("box", "why"),
    [
        (
            "1.table[2:7]",
            "[2:7] of output 'table' of ticket 1: slice 2:7 does not lie inside axis 0 of size 6",
        ),
        (
            "1.table[3:2]",
            "[3:2] of output 'table' of ticket 1: slice 3:2 does not lie inside axis 0 of size 6",
        ),
        ("1.table[0:1,0:3,0:1]", "3 slices for a tensor of 2 dimensions"),
        ("1.table[0:2]", "input 'box' takes FP32[1,3], the slice [0:2] of output 'table' of ticket 1 is FP32[2,3]"),
        ("1.table[0:1,0:2]", "is FP32[1,2]"),
    ],
)
def test_what_can_be_known_is_checked_at_once(box: str, why: str, known: bool) -> None:
    scene = world()
    client = scene.client()
    client.infer(1, "find", keep=["table"])
    if known:
        scene.runs()
    client.infer(2, "crop", box=box)
    assert client.receives()[-1] == "failed 2 INVALID_ARGUMENT"
    assert why in str(client.errors[2])


@pytest.mark.parametrize(
    ("box", "why"),
    [
        (
            "1.boxes[4:5]",
            "[4:5] of output 'boxes' of ticket 1: slice 4:5 does not lie inside axis 0 of size 4",
        ),
        ("1.any[0:1,0:3]", "2 slices for a tensor of 1 dimensions"),
        ("1.any[1:3]", "input 'box' takes FP32[1,3], the slice [1:3] of output 'any' of ticket 1 has shape [2]"),
    ],
)
def test_what_depends_on_the_run_is_checked_when_the_source_is_done(box: str, why: str) -> None:
    scene = world()
    client = scene.client()
    client.infer(1, "find", keep=["boxes", "any"])
    client.infer(2, "crop", box=box)
    assert scene.starts() == [1]
    (run,) = scene.running.values()
    del scene.running[1]
    kept = [FakeTensor(Datatype.FP32, (4, 3)), FakeTensor(Datatype.FP32, (4,))]
    scene.core.run_ended(Ended(run, [[]], [kept]), None, scene.now)
    assert set(client.receives()) == {"failed 2 INVALID_ARGUMENT", "done 1"}
    assert isinstance(client.errors[2], InvalidArgument)
    assert why in str(client.errors[2])
    client.infer(3, "crop", box=box)
    client.receives()
    assert why in str(client.errors[3]), "the same when it is known"


def test_a_failed_source_fails_what_takes_a_part_of_it() -> None:
    scene = world()
    client = scene.client()
    client.infer(1, "find", keep=["boxes"])
    client.infer(2, "crop", box="1.boxes[0:1]")
    client.cancel(1)
    assert client.receives() == ["failed 1 CANCELLED", "failed 2 FAILED_PRECONDITION"]
    assert isinstance(client.errors[2], FailedPrecondition)


def test_runs_are_planned_with_the_rows_of_the_part() -> None:
    """Parts of one row share a run, although the source has more rows than a batch may have."""
    scene = world()
    client = scene.client()
    client.infer(1, "many", x=(4,), keep=["y"])
    client.infer(9, "many", x=(4,), keep=["y"])
    assert scene.runs() == [1, 9]
    for row in range(4):
        client.infer(2 + row, "many", x=f"{(1, 9)[row % 2]}.y[{row}:{row + 1}]")
    assert scene.starts() == [2, 3, 4, 5]
    assert scene.batches == [[2, 3, 4, 5]]
    assert [scene.part(tag).rows for tag in (2, 3, 4, 5)] == [1, 1, 1, 1]


def test_a_part_is_checked_before_its_run_follows_in_place() -> None:
    """A follower starts before the core is told of its source's end, and so before the shape is checked."""
    scene = Scenario(model("loop", [port(0, "x", 4)], [port(0, "y", 8)], direct=True))
    client = scene.client()
    client.infer(1, "loop", keep=["y"])
    client.infer(2, "loop", x="1.y[2:6]")
    assert scene.starts() == [1]
    ended = Ended(scene.running[1], [[]], [[FakeTensor(Datatype.FP32, (8,))]])
    assert scene.core.follower(ended) is None
    scene.end(1)
    assert scene.starts() == [2]
    assert scene.part(2).references[0].shape == (4,)


@pytest.mark.parametrize(
    ("slices", "why"),
    [
        ([((0, 1),)] * 2, "the Infer has 1 sources, but slices for 2"),
        ([((0, 0),) * 33], "the Infer has more than 32 slices of a source"),
        (TOO_MANY_SLICES, "the Infers of the message have more than 4096 slices of sources"),
    ],
)
def test_too_many_slices_fail_their_ticket(slices: list[tuple[tuple[int, int], ...]], why: str) -> None:
    scene = world()
    client = scene.client()
    client.infer(1, "find", keep=["boxes"])
    client.infer(2, "crop", box="1.boxes", slices=slices)
    assert client.receives() == ["failed 2 INVALID_ARGUMENT"]
    assert why in str(client.errors[2])


def test_slices_of_nothing_are_whole_sources() -> None:
    scene = world()
    client = scene.client()
    client.infer(1, "many", x=(2,), keep=["y"])
    client.infer(2, "many", x="1.y", slices=[()])
    assert scene.runs() == [1, 2]
