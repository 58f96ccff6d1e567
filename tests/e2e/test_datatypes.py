"""Every datatype, every kind of shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import headrace.client as hc
from tests import models
from tests.e2e.serving import Serve, Served, run_server

DTYPES = ["boolean", "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f16", "f32", "f64", "bf16"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("datatypes")
    builds = (
        models.scalar,
        models.strings,
        models.bounded_add_multiply,
        models.scale,
        models.repeated,
        models.unique,
    )
    served = [f"{name}={models.identity(folder, name)}" for name in DTYPES]
    served += [f"{build.__name__}={build(folder)}" for build in builds]
    with Served([*served, "--property=INFERENCE_PRECISION_HINT=f32"], folder / "log") as server:
        yield server.address


async def test_every_numeric_datatype_comes_back_bit_by_bit(address: str) -> None:
    random = np.random.default_rng(1)
    async with hc.connect(address) as server, server.stream() as stream:
        served = {model.name: model for model in await server.models()}
        for name in DTYPES:
            dtype = served[name].inputs[0].dtype
            for count in (33, 0, 100_000):
                data = random.integers(0, 2 if dtype == np.bool_ else 200, count).astype(dtype)
                one = await server.infer(name, {"x": data})
                other = await (await stream.submit(name, {"x": data}))
                for outputs in (one, other):
                    (same,) = outputs.values()
                    assert same.dtype == dtype
                    assert same.shape == (count, 1)
                    assert same.tobytes() == data.tobytes()
    assert served["bf16"].inputs[0].dtype == ml_dtypes.bfloat16


async def test_scalars_are_served(address: str) -> None:
    async with hc.connect(address) as server, server.stream() as stream:
        for x in (np.float32(41), np.array(41, np.float32)):
            outputs = await (await stream.submit("scalar", {"x": x}, keep=["next"]))
            assert outputs["next"].shape == ()
            assert outputs["next"] == 42


async def test_strings_are_served(address: str) -> None:
    words = np.array(["water", "", "mühle", b"\x00\xff", "x" * 100_000, b"\0", b"a\0\0"], object)
    expected = [b"water", b"", "mühle".encode(), b"\x00\xff", b"x" * 100_000, b"\0", b"a\0\0"]
    async with hc.connect(address) as server, server.stream() as stream:
        a = await stream.submit("strings", {"x": words}, keep=["same"])
        outputs = await a
        assert outputs["same"].tolist() == expected
        assert outputs["ends"].tolist() == [5, 5, 11, 13, 100_013, 100_014, 100_017]
        assert (await a.fetch("same", slice=(1, 4))).tolist() == expected[1:4]
        b = await stream.submit("strings", {"x": a.take("same")}, outputs=["same"])
        assert (await b)["same"].tolist() == expected
        many = np.array([str(number) for number in range(5000)])
        assert (await server.infer("strings", {"x": many}))["same"].tolist() == [word.encode() for word in many]
        with pytest.raises(hc.InvalidArgument, match=r"'x' has shape \[0\]"):
            await server.infer("strings", {"x": np.zeros(0, object)})
        with pytest.raises(hc.InvalidArgument, match="neither str nor bytes"):
            await stream.submit("strings", {"x": np.array([1.5], object)})
        with pytest.raises(hc.InvalidArgument, match="FP32"):
            await (await stream.submit("strings", {"x": np.zeros(1, np.float32)}))


async def test_bounded_dimensions_are_checked(address: str) -> None:
    async with hc.connect(address) as server, server.stream() as stream:
        (model,) = [model for model in await server.models() if model.name == "bounded_add_multiply"]
        assert model.inputs[0].shape == ((2, 8), 16)
        for rows in (2, 5, 8):
            x = np.full((rows, 16), rows, np.float32)
            outputs = await (await stream.submit("bounded_add_multiply", {"x": x, "y": x}))
            np.testing.assert_array_equal(outputs["sum"], 2 * x)
        for rows in (1, 9):
            x = np.zeros((rows, 16), np.float32)
            with pytest.raises(hc.InvalidArgument, match=r"'x'.*2\.\.8"):
                await (await stream.submit("bounded_add_multiply", {"x": x, "y": x}))


async def test_shapes_that_depend_on_data_are_served(address: str) -> None:
    async with hc.connect(address) as server, server.stream() as stream:
        for times in (1, 0, 40_000, 3):
            x = np.arange(5, dtype=np.float32)
            ticket = await stream.submit("repeated", {"x": x, "times": np.array([times])}, keep=["y"])
            outputs = await ticket
            np.testing.assert_array_equal(outputs["y"], np.tile(x, (times, 1)))
            np.testing.assert_array_equal(await ticket.fetch("y"), np.tile(x, (times, 1)))


async def test_an_empty_input_never_gets_what_was_computed_before(address: str) -> None:
    """Where shapes depend on data, the runtime answers an empty input with the last output there was, whose ever."""
    empty = {"x": np.zeros(0, np.float32)}
    async with hc.connect(address) as server:
        assert (await server.infer("scale", {"x": np.ones(3, np.float32)}))["y"].shape == (3,)
        assert (await server.infer("scale", empty))["y"].shape == (0,)
        found = await server.infer("unique", {"x": np.array([2, 1, 2], np.float32)})
        assert found["y"].tolist() == [2, 1] or found["y"].tolist() == [1, 2]
        with pytest.raises(hc.InvalidArgument, match=r"'x' has shape \[0\]; the model takes FP32\[1\.\.\]"):
            await server.infer("unique", empty)


@pytest.mark.parametrize("type_name", ["i4", "u4", "nf4", "u1", "f8e4m3"])
def test_a_datatype_without_whole_bytes_is_refused(tmp_path: Path, type_name: str) -> None:
    ended = run_server(f"small={models.of_type(tmp_path, type_name)}")
    assert ended.returncode == 3
    assert "'small'" in ended.stderr
    assert type_name in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_an_output_larger_than_any_message_is_fetched_in_slices(serve: Serve, tmp_path: Path) -> None:
    """300 MB, kept and fetched by the library in slices, with bounded memory on both sides."""
    served = serve(f"repeated={models.repeated(tmp_path)}", "--keep-bytes=400MiB")
    x = np.arange(1000, dtype=np.float32)
    times = 75_000
    async with hc.connect(served.address) as server, server.stream() as stream:
        ticket = await stream.submit("repeated", {"x": x, "times": np.array([times])}, outputs=[], keep=["y"])
        await ticket
        kept = (await server.status()).kept_bytes
        assert kept == 300_000_000
        before = served.resident_bytes()
        whole = await ticket.fetch("y")
        assert whole.shape == (times, 1000)
        assert (whole == x).all()
        assert served.resident_bytes() - before < 100 << 20
        part = await ticket.fetch("y", slice=[(70_000, 70_002), (998, 1000)])
        assert part.tolist() == [[998, 999], [998, 999]]
