"""What programs give as inputs, by each way of calling: it is taken, or a sentence says what to write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headrace.client as hc
from headrace.client import blocking
from headrace.client.protocol import known_models
from headrace.client.protocol.fitting import fit
from tests import models
from tests.e2e.serving import F32, Serve, Served

ONES = np.ones((2, 16), np.float32)
Call = Callable[..., Any]
"""Runs an inference and returns its outputs."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("given")
    made = [models.add_multiply(folder), models.strings(folder)]
    made += [models.identity(folder, name) for name in ("f32", "f64", "i64", "u8", "bf16", "boolean")]
    with Served([*map(str, made), F32], folder / "log") as server:
        yield server


@pytest.fixture(params=["unary", "stream", "blocking unary", "blocking stream"])
async def call(served: Served, request: pytest.FixtureRequest) -> AsyncIterator[Call]:
    """`await call(model, inputs, outputs=)` by each way; each gets the same arguments."""
    async with hc.connect(served.address) as server, server.stream() as stream:
        with blocking.connect(served.address) as blocked, blocked.stream() as stream_of_blocked:

            async def submit(*arguments: Any, **options: Any) -> Any:
                return await (await stream.submit(*arguments, **options))

            async def infer_in_thread(*arguments: Any, **options: Any) -> Any:
                return await asyncio.to_thread(blocked.infer, *arguments, **options)

            async def submit_in_thread(*arguments: Any, **options: Any) -> Any:
                return (await asyncio.to_thread(stream_of_blocked.submit, *arguments, **options)).result(30)

            ways: dict[str, Call] = {
                "unary": server.infer,
                "stream": submit,
                "blocking unary": infer_in_thread,
                "blocking stream": submit_in_thread,
            }
            yield ways[request.param]


async def test_numbers_and_lists_are_inputs_from_the_first_call_on(call: Call) -> None:
    assert (await call("identity_f32", {"x": [1, 2.5, 0.1]}))["same"].ravel().tolist() == [1, 2.5, np.float32(0.1)]
    assert (await call("identity_f64", {"x": [0.5]}))["same"].tolist() == [[0.5]]
    assert (await call("identity_i64", {"x": [1.0, 2.0]}))["same"].tolist() == [[1], [2]]
    assert (await call("identity_u8", {"x": (0, 255)}))["same"].tolist() == [[0], [255]]
    assert (await call("identity_boolean", {"x": [True, 0]}))["same"].tolist() == [[True], [False]]
    with pytest.raises(hc.InvalidArgument, match=r"such as 1\.5, would change as INT64"):
        await call("identity_i64", {"x": [1.5]})


async def test_float64_is_converted_if_nothing_is_lost(call: Call) -> None:
    for _ in range(3):
        outputs = await call("add_multiply", {"x": np.ones((2, 16)), "y": ONES})
        assert outputs["sum"].dtype == np.float32
        assert (outputs["sum"] == 2).all()
        with pytest.raises(hc.InvalidArgument, match=r"32 of 32 values.*write \.astype\(np\.float32\)"):
            await call("add_multiply", {"x": np.full((2, 16), 0.1), "y": ONES})


async def test_mistakes_are_told_with_what_to_write(call: Call) -> None:
    await call("add_multiply", {"x": ONES.tolist(), "y": ONES})  # from here on its ports are known
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"x": ONES, "yy": ONES}, r"has no input 'yy' \(did you mean 'y'\?\); it has 'x', 'y'"),
        ({"x": ONES}, "input 'y' of model 'add_multiply' is missing"),
        ({"x": ONES, "y": ONES.astype(np.int32)}, r"has datatype INT32.* takes FP32: write \.astype\(np\.float32\)"),
        ({"x": ONES, "y": ONES[0]}, r"has shape \[16\].*takes FP32\[\?,16\], of 2 dimensions and not 1"),
        ({"x": ONES, "y": ONES[:, 1:]}, r"has shape \[2, 15\]; the model takes FP32"),
        ({"x": ONES, "y": {"a": 1}}, "input 'y' is a dict, which is not an array"),
    ]
    for inputs, message in mistakes:
        with pytest.raises(hc.InvalidArgument, match=message):
            await call("add_multiply", inputs)
    with pytest.raises(hc.NotFound, match=r"has no output 'summ' \(did you mean 'sum'\?\)"):
        await call("add_multiply", {"x": ONES, "y": ONES}, outputs=["summ"])
    assert (await call("add_multiply", {"x": ONES, "y": ONES}))["sum"].shape == (2, 16)


async def test_names_and_versions_mean_the_same_everywhere(call: Call) -> None:
    inputs = {"x": ONES, "y": ONES}
    for outputs in ({"sum"}, iter(["sum"]), {"sum": 0}.keys(), ("sum",)):
        assert list(await call("add_multiply", inputs, outputs=outputs, version=1)) == ["sum"]
    assert list(await call("add_multiply", inputs, outputs=[], version="1")) == []
    with pytest.raises(TypeError, match=r"outputs takes a list of names.*write \['sum'\]"):
        await call("add_multiply", inputs, outputs="sum")
    with pytest.raises(hc.NotFound, match="no version '2'"):
        await call("add_multiply", inputs, version=2)


async def test_images_and_arrays_of_other_libraries_are_inputs(call: Call) -> None:
    class Foreign:
        def __dlpack__(self, **options: Any) -> Any:
            return ONES[0, :3].__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return ONES.__dlpack_device__()

    assert (await call("identity_f32", {"x": Foreign()}))["same"].tolist() == [[1], [1], [1]]
    line = Image.new("L", (3, 1), 7)
    with pytest.raises(hc.InvalidArgument, match=r"has shape \[1, 3\]"):
        await call("identity_u8", {"x": line.copy()}, outputs=["same"])
    assert (await call("identity_u8", {"x": np.asarray(line)[0]}))["same"].tolist() == [[7]] * 3


async def test_what_there_is_not_is_told_with_what_there_is(call: Call) -> None:
    with pytest.raises(hc.NotFound, match=r"no model 'add_multply'; there are 'add_multiply', 'identity_bf16', .*"):
        await call("add_multply", {"x": ONES})


async def test_a_ticket_is_a_collection_of_its_kept_outputs(served: Served) -> None:
    async with hc.connect(served.address) as server, server.stream() as stream:
        ticket = await stream.submit("add_multiply", {"x": ONES, "y": ONES}, outputs=(), keep={"sum", "product"})
        assert set(ticket) == {"sum", "product"}
        assert "sum" in ticket
        assert "x" not in ticket
        with pytest.raises(TypeError, match=r"is a ticket: write ticket\['"):
            await stream.submit("add_multiply", {"x": ticket, "y": ONES})  # type: ignore[dict-item]  # the mistake
        ticket.release("sum")
        assert list(ticket) == ["product"]
        failed = await stream.submit("add_multiply", {"x": ONES}, keep=["sum"])
        with pytest.raises(hc.InvalidArgument):
            await failed
        assert list(failed) == []
        with pytest.raises(hc.FailedPrecondition, match=f"ticket {failed.tag}"):
            await (await stream.submit("add_multiply", {"x": failed["sum"], "y": ONES}))
    with blocking.connect(served.address) as blocked, blocked.stream() as stream_of_blocked:
        kept = stream_of_blocked.submit("add_multiply", {"x": ONES, "y": ONES}, keep=["sum"])
        assert list(kept) == ["sum"]
        assert "sum" in kept
        assert kept.keep == ("sum",)
        with pytest.raises(TypeError, match=r"write ticket\['sum'\]"):
            stream_of_blocked.submit("add_multiply", {"x": kept, "y": ONES})  # type: ignore[dict-item]  # the mistake


async def test_a_part_of_a_kept_output_is_fetched_by_an_index_of_numpy(served: Served) -> None:
    x = np.arange(96, dtype=np.float32).reshape(6, 16)
    async with hc.connect(served.address) as server, server.stream() as stream:
        ticket = await stream.submit("add_multiply", {"x": x, "y": np.zeros_like(x)}, keep=["sum"])
        for index in (np.s_[0:3, :5], np.s_[-1], np.s_[..., 2:4], np.s_[1, -3:], np.s_[0:100], np.s_[4:2], np.s_[:]):
            found = await ticket.fetch("sum", index)
            np.testing.assert_array_equal(found, x[index])
            assert not found.flags.writeable
        with pytest.raises(IndexError, match="outside axis 0 of size 6"):
            await ticket.fetch("sum", np.s_[6, :])
        with pytest.raises(ValueError, match="has a step"):
            await ticket.fetch("sum", np.s_[::2])
    with blocking.connect(served.address) as blocked, blocked.stream() as stream_of_blocked:
        kept = stream_of_blocked.submit("add_multiply", {"x": x, "y": np.zeros_like(x)}, keep=["sum"])
        np.testing.assert_array_equal(kept.fetch("sum", np.s_[2:, 1]), x[2:, 1])


async def test_inputs_are_checked_when_a_call_is_defined_and_not_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = 0

    def count(*arguments: Any) -> Any:
        nonlocal checked
        checked += 1
        return fit(*arguments)

    monkeypatch.setattr(known_models, "fit", count)
    large = np.ones((4096, 16), np.float32)
    async with hc.connect(served.address) as server, server.stream() as stream:
        await (await stream.submit("add_multiply", {"x": [[1] * 16], "y": [[1] * 16]}))
        for inputs in ({"x": ONES, "y": ONES}, {"x": large, "y": large}):
            checked = 0
            for _ in range(5):
                await (await stream.submit("add_multiply", inputs, outputs=["sum"]))
            assert checked == 1


def test_a_model_that_is_loaded_again_with_other_ports_takes_what_those_take(serve: Serve, tmp_path: Path) -> None:
    """What a client knows of a model may be out of date: its answer is the server's."""
    repository = tmp_path / "repository"

    def put(type_name: str) -> None:
        path = models.identity(tmp_path, type_name)
        for source in (path, path.with_suffix(".bin")):
            target = repository / "m" / "1" / f"model{source.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())

    put("f32")
    served = serve("--repository", str(repository), "--model-control", "--property=INFERENCE_PRECISION_HINT=f32")
    with blocking.connect(served.address) as server, server.stream() as stream:
        calls: list[Call] = [
            lambda value: stream.submit("m", {"x": value}).result(30)["same"],
            lambda value: server.infer("m", {"x": value})["same"],
        ]
        whole, doubles = np.arange(3), np.array([0.1])
        for call in calls:
            assert call([1, 2]).dtype == np.float32
            with pytest.raises(hc.InvalidArgument, match="takes FP32"):
                call(whole)
        put("i64")
        server.load_model("m")
        for call in calls:
            assert call(whole).dtype == np.int64
        put("f64")
        server.load_model("m")
        for call in calls:
            assert call(doubles).dtype == np.float64
        put("f32")
        server.load_model("m")
        for call in calls:
            # The server refuses what was right before. Then the ports are looked at again, and once is enough.
            with suppress(hc.InvalidArgument):
                call([1, 2])
            assert call([1, 2]).dtype == np.float32
