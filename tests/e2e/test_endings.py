"""A failure, a deadline or a killed client harms no other ticket."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest

import headrace.client as hc
from tests import models
from tests.e2e.held import until_nothing_is_held
from tests.e2e.serving import Serve
from tests.stopwatch import Stopwatch

ONE = np.ones(1, np.float32)


async def test_a_hundred_good_answers_survive_three_bad_requests(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"slow={models.slow(tmp_path)}", f"am={models.add_multiply(tmp_path)}", "--slots=1", "--window=200")
    async with hc.connect(served.address) as server, server.stream() as stream:
        running = await stream.submit("slow", {"x": ONE})
        cancelled = await stream.submit("slow", {"x": ONE})
        expired = await stream.submit("slow", {"x": ONE}, timeout=0.02)
        good: list[hc.Ticket] = []
        for number in range(100):
            x = np.full((1, 16), number, np.float32)
            good.append(await stream.submit("am", {"x": x, "y": x}))
            if number == 50:
                malformed = await stream.submit("am", {"x": x[:, 1:], "y": x})
                cancelled.cancel()
        for number, ticket in enumerate(good):
            assert (await ticket)["sum"][0, 0] == 2 * number
        with pytest.raises(hc.Cancelled):
            await cancelled
        with pytest.raises(hc.DeadlineExceeded):
            await expired
        with pytest.raises(hc.InvalidArgument, match="'x'"):
            await malformed
        assert (await running)["y"].tolist() == [1.0]
        again = await stream.submit("am", {"x": np.ones((1, 16), np.float32), "y": np.ones((1, 16), np.float32)})
        assert (await again)["sum"][0, 0] == 2


async def test_a_deadline_stops_a_run(serve: Serve, tmp_path: Path, stopwatch: Stopwatch) -> None:
    served = serve(f"slow={models.slow(tmp_path, steps=1000)}", "--slots=1")
    async with hc.connect(served.address) as server, server.stream() as stream:
        stopwatch.start()
        with pytest.raises(hc.DeadlineExceeded):
            await (await stream.submit("slow", {"x": ONE}, timeout=0.1))
        await until_nothing_is_held(server)
        assert stopwatch.ran() < 5
        with pytest.raises(hc.DeadlineExceeded):
            await server.infer("slow", {"x": ONE}, timeout=0.1)
        stopwatch.start()
        await until_nothing_is_held(server)
        assert stopwatch.ran() < 5


async def test_a_failure_inside_the_runtime_fails_its_ticket_alone(
    serve: Serve, tmp_path: Path, stopwatch: Stopwatch
) -> None:
    served = serve(f"failing={models.failing(tmp_path)}", "--slots=1")
    async with hc.connect(served.address) as server, server.stream() as stream:
        for _ in range(3):
            bad = await stream.submit("failing", {"x": np.zeros(15, np.float32)}, keep=["y"])
            stopwatch.start()
            with pytest.raises(hc.Internal) as failed:
                await bad
            assert stopwatch.ran() < 1
            number = failed.value.message.split()[-1]
            served.wait_until_logged(number)  # the operator finds why
            assert "Reshape" not in failed.value.message
            data = np.arange(16, dtype=np.float32)
            good = await (await stream.submit("failing", {"x": data}))
            np.testing.assert_array_equal(good["y"], data.reshape(2, 8))
        assert (await server.status()).kept_bytes == 0


CLIENT = """
import asyncio, sys
import numpy as np
import headrace.client as hc

async def main():
    async with hc.connect(sys.argv[1]) as server:
        async with server.stream() as stream:
            for i in range(990):
                await stream.submit("wide", {"x": np.ones((1, 16), np.float32)}, outputs=["small"], keep=["large"])
            for i in range(10):
                await stream.submit("slow", {"x": np.ones(1, np.float32)})
            while (await server.status()).kept_bytes < 20 << 20:
                pass
            print("busy", flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_killed_client_leaves_nothing_behind(serve: Serve, tmp_path: Path, stopwatch: Stopwatch) -> None:
    served = serve(
        f"wide={models.wide(tmp_path)}", f"slow={models.slow(tmp_path, steps=400)}", f"scale={models.scale(tmp_path)}"
    )
    async with hc.connect(served.address) as server, server.stream() as stream:
        doomed = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, served.address, stdout=asyncio.subprocess.PIPE
        )
        assert doomed.stdout is not None
        assert await doomed.stdout.readline() == b"busy\n"
        before = await server.status()
        assert before.kept_bytes >= 20 << 20
        doomed.kill()
        await doomed.communicate()  # unlike wait, it closes the pipe
        stopwatch.start()
        await until_nothing_is_held(server)
        assert stopwatch.ran() < 1
        for number in range(100):
            outputs = await (await stream.submit("scale", {"x": np.array([number], np.float32)}))
            assert outputs["y"].tolist() == [2 * number + 1]
        assert "Traceback" not in served.log
