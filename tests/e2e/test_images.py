"""Clients send JPEG and PNG, by both protocols, inline and chained; all that was ever admitted ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import numpy as np
import pytest

import headrace.client as hc
from headrace.oip import open_inference_pb2 as pb
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.port_options import InputOptions
from tests import models
from tests.e2e.port_options import configured
from tests.e2e.serving import Served
from tests.server.engine.decoding.pictures import Pixels, jpeg, picture, png, png_of_size

SCALED = Compilation(inputs={"x": InputOptions(encoded=True, resize="bilinear_pillow", scale=(2.0,))})
PIXELS = picture(24, 32)
LARGE = png(np.tile(picture(40, 50), (100, 80, 1)), compress_level=1)
"""16 megapixels: takes a tenth of a second to decode."""


def expected(pixels: Pixels) -> np.ndarray:
    result: np.ndarray = pixels.transpose(2, 0, 1)[np.newaxis] / np.float32(2)
    return result


def strings(*files: bytes) -> np.ndarray:
    return np.array(files, object)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """A server of `image`, batched, of 24 x 32 pixels, and of `strings`."""
    with ExitStack() as stack:

        def start(*arguments: str) -> Served:
            image = models.image(tmp_path, [-1, 3, 24, 32])
            command = [
                str(image),
                str(models.strings(tmp_path)),
                "--batch=8",
                "--property=INFERENCE_PRECISION_HINT=f32",
                configured(tmp_path, image=SCALED),
                *arguments,
            ]
            return stack.enter_context(Served(command, tmp_path / "log"))

        yield start


@pytest.fixture
def served(start: Callable[..., Served]) -> Served:
    return start()


async def in_flight(server: hc.Server, least: int, most: int = 1000) -> None:
    """Wait until the server has so many tickets in flight."""
    async with asyncio.timeout(30):
        while not least <= (await server.status()).tickets_in_flight <= most:
            pass


async def test_metadata_shows_what_is_to_be_sent(served: Served) -> None:
    async with hc.connect(served.address) as server:
        (x,) = (await server.model("image")).inputs
        assert (x.name, x.datatype, x.shape) == ("x", "BYTES", ((1, None),))
    with grpc.insecure_channel(served.address) as channel:
        metadata = GRPCInferenceServiceStub(channel).ModelMetadata(pb.ModelMetadataRequest(name="image"))
        assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [("x", "BYTES", [-1])]


async def test_inline_chained_and_unary(served: Served) -> None:
    file = png(PIXELS)
    async with hc.connect(served.address) as server:
        alone = await server.infer("image", {"x": strings(file)})
        np.testing.assert_array_equal(alone["same"], expected(PIXELS))
        async with server.stream() as stream:
            source = await stream.submit("strings", {"x": strings(file, file)}, outputs=[], keep=["same"])
            chained = await (await stream.submit("image", {"x": source.take("same")}))
            np.testing.assert_array_equal(chained["same"], np.concatenate([expected(PIXELS)] * 2))


async def test_many_clients_each_get_their_own_and_bad_images_only_harm_themselves(served: Served) -> None:
    """Runs are shared, by images of many sizes, broken ones among them."""
    pictures = [picture(24, 32, seed) for seed in range(8)]
    good = [png(each) if seed % 2 else png(each, compress_level=0) for seed, each in enumerate(pictures)]
    bad = [b"", b"GIF89a", jpeg(PIXELS)[:-30], png_of_size(60_000, 60_000), good[0][:-60]]

    async def client(seed: int) -> int:
        random = np.random.default_rng(seed)
        refused = 0
        async with hc.connect(served.address) as server, server.stream() as stream:
            tickets = []
            for _ in range(60):
                choice = int(random.integers(len(good) + 2))
                file = good[choice] if choice < len(good) else bad[int(random.integers(len(bad)))]
                tickets.append((choice, await stream.submit("image", {"x": strings(file)})))
            for choice, ticket in tickets:
                if choice < len(good):
                    np.testing.assert_array_equal((await ticket)["same"], expected(pictures[choice]))
                    continue
                with pytest.raises(hc.InvalidArgument, match=r"^the image of input 'x' (is|has) "):
                    await ticket
                refused += 1
        return refused

    assert sum(await asyncio.gather(*map(client, range(6)))) > 20
    async with hc.connect(served.address) as server:
        (status,) = [each for each in (await server.status()).models if each.name == "image"]
        assert status.executions < status.inferences, "no run was shared"
    assert "ERROR" not in served.log


async def test_a_deadline_and_a_cancel_end_a_ticket_whose_image_is_being_decoded(served: Served) -> None:
    async with hc.connect(served.address) as server, server.stream() as stream:
        late = [await stream.submit("image", {"x": strings(LARGE)}, timeout=0.02) for _ in range(4)]
        cancelled = [await stream.submit("image", {"x": strings(LARGE)}) for _ in range(4)]
        for ticket in cancelled:
            ticket.cancel()
        for ticket in late:
            with pytest.raises(hc.DeadlineExceeded):
                await ticket
        for ticket in cancelled:
            with pytest.raises(hc.Cancelled):
                await ticket
        result = await (await stream.submit("image", {"x": strings(png(PIXELS))}))
        np.testing.assert_array_equal(result["same"], expected(PIXELS))


async def test_a_server_that_stops_finishes_the_images_in_flight(served: Served) -> None:
    async with hc.connect(served.address) as server, server.stream() as stream:
        tickets = [await stream.submit("image", {"x": strings(LARGE)}) for _ in range(6)]
        await in_flight(server, 6)
        served.process.terminate()
        for ticket in tickets:
            assert (await ticket)["same"].shape == (1, 3, 24, 32)
    assert served.process.wait(30) == 0


async def test_a_server_without_grace_ends_while_images_are_decoded(start: Callable[..., Served]) -> None:
    served = start("--grace=0")
    async with hc.connect(served.address) as server:
        stream = await server.stream().__aenter__()
        tickets = [await stream.submit("image", {"x": strings(LARGE)}) for _ in range(40)]
        await in_flight(server, 20)
        served.process.terminate()
        for ticket in tickets:
            with suppress(hc.Unavailable):
                await ticket
    assert served.process.wait(30) == 0


async def test_a_client_that_vanishes_leaves_nothing_behind(served: Served) -> None:
    async with hc.connect(served.address) as other:
        for _ in range(3):
            async with hc.connect(served.address) as server:
                stream = server.stream()
                await stream.__aenter__()
                for _ in range(8):
                    await stream.submit("image", {"x": strings(LARGE)})
        result = await other.infer("image", {"x": strings(png(PIXELS))})
        np.testing.assert_array_equal(result["same"], expected(PIXELS))
        await in_flight(other, 0, most=0)
