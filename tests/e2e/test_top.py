"""`headrace top` and `headrace status --watch`, beside a client that is at work."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import headrace.client.blocking as hc
from tests import models
from tests.e2e.serving import Serve
from tests.waiting import until

COMMAND = [sys.executable, "-m", "headrace.client"]
HELD = {"x": np.ones(1, np.float32)}
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def on_a_terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command, and the descriptor of the terminal that it draws on."""
    ours, its = pty.openpty()
    env = {**os.environ, "COLUMNS": "110", "LINES": "24", "TERM": "xterm"}
    process = subprocess.Popen([*COMMAND, *arguments], stdin=its, stdout=its, stderr=its, env=env)
    os.close(its)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(descriptor: int, pattern: str) -> re.Match[str]:
    """What was drawn, without its control sequences, up to where the pattern is found."""
    drawn, text, deadline = b"", "", time.monotonic() + 60
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        drawn += os.read(descriptor, 1 << 16)
        text = _CONTROL.sub("", drawn.decode(errors="replace"))
        if match := re.search(pattern, text):
            return match
    raise AssertionError(f"{pattern!r} was not drawn, but {text}")


def test_top_shows_models_and_streams_until_it_is_interrupted(serve: Serve, tmp_path: Path) -> None:
    served = serve(models.scale(tmp_path), models.slow(tmp_path, steps=400))
    with hc.connect(served.address) as server, server.stream() as busy, server.stream() as stream:
        held = busy.submit("slow", HELD)
        with on_a_terminal("top", served.address, "--interval=0.2", "--filter=scale") as (process, terminal):
            read_until(terminal, "measuring")
            for _ in range(50):
                assert stream.submit("scale", HELD).result(60)["y"].tolist() == [3]
            row = read_until(terminal, r"scale +1 +([\d.,]+) +0 +0 +([\d.,]+ ms) +([\d.,]+ ms) +1\.0 +0 +\d/\d")
            assert float(row[1].replace(",", "")) > 0
            client = read_until(terminal, r"(ipv[46]:\S+) +1 +0 B +0 B")
            assert "127.0.0.1" in client[1] or "::1" in client[1]
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        held.cancel()


def test_top_says_that_the_server_has_gone_and_goes_on(serve: Serve, tmp_path: Path) -> None:
    served = serve(models.scale(tmp_path))
    with on_a_terminal("top", served.address, "--interval=0.1") as (process, terminal):
        read_until(terminal, "scale")
        served.stop(signal.SIGKILL)
        read_until(terminal, "UNAVAILABLE")
        assert process.poll() is None


def test_the_status_says_how_late_the_event_loop_is(serve: Serve, tmp_path: Path) -> None:
    served = serve(models.scale(tmp_path))
    with hc.connect(served.address) as server, on_a_terminal("top", served.address) as (_, terminal):
        read_until(terminal, "scale")
        # Whatever else this machine does, nobody waits for so long by chance.
        assert server.status().loop_lag < 2
        served.process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        served.process.send_signal(signal.SIGCONT)
        assert 2 < server.status().loop_lag < 60
        read_until(terminal, r"serving · event loop late by [\d,]{4,} ms")
        until(lambda: server.status().loop_lag <= 1, lambda: "that was long ago")


def test_top_needs_a_terminal() -> None:
    ended = subprocess.run([*COMMAND, "top", "127.0.0.1:1"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "headrace status TARGET --watch --json" in ended.stderr


def test_the_status_is_a_line_of_json_each_time(serve: Serve, tmp_path: Path) -> None:
    served = serve(models.scale(tmp_path))
    command = [*COMMAND, "status", served.address, "--watch", "--json", "--interval=0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, hc.connect(served.address) as server:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["models"][0]["inferences"] == 0
        server.infer("scale", HELD)
        counts = (json.loads(line)["models"][0] for line in process.stdout)
        model = next(each for each in counts if each["inferences"])
        assert sum(model["durations"]["counts"]) <= model["inferences"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
