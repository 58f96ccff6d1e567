"""A thousand streams at once: each gets as many answers as any other.

    python -m tests.soak.many_streams ADDRESS CONNECTIONS STREAMS SECONDS

opens so many streams of both protocols, and prints a line of JSON with how many answers each has had.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time

import grpc
import grpc.aio

from tests import models
from tests.interop.inferences import (
    MODEL_STREAM_INFER,
    STREAM,
    Bystander,
    Event,
    events,
    frame,
    model_infer,
    stream_answer,
)
from tests.soak.findings import Findings
from tests.soak.setting import PATIENCE, Setting

STREAMS, CONNECTIONS, PROCESSES = 1000, 20, 2
SECONDS = 90
IN_FLIGHT = 2
"""Inferences of each stream, each in a message of its own."""
RATIO = 1.5
Call = grpc.aio.StreamStreamCall[bytes, bytes]


class Asker:
    """One stream. `answers` counts what has come since the last time that it was set."""

    def __init__(self, call: Call, is_native: bool) -> None:
        self.call, self.is_native = call, is_native
        self.answers = 0
        self._next = 1

    async def begin(self) -> None:
        for _ in range(IN_FLIGHT):
            await self._ask()
        await self._read()

    async def go_on(self) -> None:
        while True:
            await self._ask()
            await self._read()

    async def _ask(self) -> None:
        number = self._next
        self._next += 1
        if self.is_native:
            await self.call.write(frame(number % 1000, first_tag=number, define=number == 1))
        else:
            await self.call.write(model_infer(number % 1000, request_id=str(number)))

    async def _read(self) -> None:
        """Until an answer has come: each is the one that it must be."""
        before = self.answers
        while self.answers == before:
            message = await self.call.read()
            assert isinstance(message, bytes), await self.call.details()
            if self.is_native:
                told, numbers = events(message)
                tags = [event.tag for event in told if event.kind == Event.DONE]
                assert numbers == [2 * (tag % 1000) + 1 for tag in tags]
                self.answers += len(tags)
            else:
                name, number = stream_answer(message)
                assert number == 2 * (int(name) % 1000) + 1
                self.answers += 1


async def ask(address: str, connections: int, streams: int, seconds: float) -> list[int]:
    """The answers of each stream, while all of them ask."""
    channels = [grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(connections)]
    askers = []
    for number in range(streams):
        is_native = number % 2 == 0
        start: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channels[number // 2 % connections].stream_stream(
            STREAM if is_native else MODEL_STREAM_INFER
        )
        askers.append(Asker(start(), is_native))
    await asyncio.gather(*[asker.begin() for asker in askers])
    print("all", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for asker in askers:
        asker.answers = 0
    tasks = [asyncio.create_task(asker.go_on()) for asker in askers]
    ended, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in ended:
        task.result()
    counts = [asker.answers for asker in askers]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for channel in channels:
        await channel.close()
    return counts


def many_streams(setting: Setting) -> Findings:
    findings = Findings()
    streams = max(PROCESSES * CONNECTIONS, setting.of(STREAMS))
    seconds = max(5.0, SECONDS * min(1.0, streams / STREAMS))
    part = str(streams // PROCESSES)
    with setting.serving(models.scale(setting.folder)) as served:
        command = [sys.executable, "-m", "tests.soak.many_streams", served.address, str(CONNECTIONS // PROCESSES)]
        clients = [
            subprocess.Popen([*command, part, str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(PROCESSES)
        ]
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline() == "all\n"
        bystander = Bystander(served.address, PATIENCE)
        with bystander.channel:
            status = bystander.status()
            lines = []
            began = time.monotonic()
            for client in clients:
                assert client.stdin is not None
                client.stdin.write("\n")
                client.stdin.flush()
            lines = [client.communicate()[0] for client in clients]
            took = time.monotonic() - began
            assert not any(client.returncode for client in clients), "a stream has failed: see its error above"
            bystander.until_idle()
        counts = [json.loads(line) for line in lines]
        every = [each for part in counts for each in part]
        native = [each for part in counts for each in part[::2]]
        triton = [each for part in counts for each in part[1::2]]
        findings.at_least("streams at once, half of them Triton's", status.streams, streams)
        findings.count("connections", CONNECTIONS)
        findings.count("right answers", sum(every))
        findings.count("answers per second", sum(every) / took)
        for name, each in (("of frames", native), ("Triton's", triton)):
            findings.count(f"  {name}, fewest of a stream", min(each))
            findings.count(f"  {name}, most of a stream", max(each))
        findings.below("most over fewest answers of a stream", max(every) / max(1, min(every)), RATIO)
    return findings


def main(address: str, connections: str, streams: str, seconds: str) -> None:
    print(json.dumps(asyncio.run(ask(address, int(connections), int(streams), float(seconds)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
