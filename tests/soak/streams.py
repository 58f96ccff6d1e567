"""Streams of 100 inferences each that end in different ways, with every answer compared.

    python -m tests.soak.streams ADDRESS STREAMS SEED

Prints a line of JSON: how many streams and inferences there were, by kind.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache

import grpc
import grpc.aio

from headrace.oip import open_inference_pb2 as oip
from headrace.v1 import inference_pb2 as pb
from tests.interop.inferences import MODEL_STREAM_INFER, STREAM, Command, Event, model_infer

INFERENCES = 100
"""Those of a stream, in two messages of half as many by frames, and in as many messages by Triton's stream."""
HALF = INFERENCES // 2
AT_ONCE, STREAMS_OF_A_CONNECTION = 16, 500
NUMBERS = 32
"""The different first numbers: messages are made once for each."""
BAD_TAG = 1 << 32
Channel = grpc.aio.Channel
Call = grpc.aio.StreamStreamCall[bytes, bytes]
READ_SECONDS = 120


@cache
def messages(first: int, keeps: bool) -> Sequence[bytes]:
    """Two frames: inferences of numbers from `first`, and then of more, or of what the first ones have kept.

    The last command is a bad one: it fails.
    """
    inline = pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[1]))
    kept = pb.Input(name="x", reference=pb.Reference(output="y", take=first % 2 == 0))
    one = pb.Call(model="scale", inputs=[inline], outputs=["y"], keep=["y"] if keeps else [])
    two = pb.Call(model="scale", inputs=[kept], outputs=["y"])
    defined = [Command(kind=Command.DEFINE, call=number, define=call) for number, call in enumerate((one, two), 1)]
    tags = range(1, HALF + 1)
    given = [struct.pack("<f", first + tag) for tag in tags]
    opening = pb.ClientFrame(commands=defined + [Command(tag=tag, call=1, tensors=1) for tag in tags], tensors=given)
    bad = Command(tag=BAD_TAG, call=77)
    if keeps:
        rest = pb.ClientFrame(commands=[Command(tag=HALF + tag, call=2, sources=[tag]) for tag in tags] + [bad])
    else:
        commands = [Command(tag=HALF + tag, call=1, tensors=1) for tag in tags] + [bad]
        rest = pb.ClientFrame(commands=commands, tensors=given)
    return [opening.SerializeToString(), rest.SerializeToString()]


@cache
def answers(first: int, keeps: bool) -> dict[int, bytes]:
    """By tag: 2x + 1, and the same of that where it was kept."""
    once = {tag: 2.0 * (first + tag) + 1 for tag in range(1, HALF + 1)}
    again = {HALF + tag: 2 * y + 1 if keeps else y for tag, y in once.items()}
    return {tag: struct.pack("<f", y) for tag, y in (once | again).items()}


@cache
def oip_requests(first: int) -> Sequence[bytes]:
    return [model_infer(first + number, request_id=str(number)) for number in range(INFERENCES)]


async def read(call: Call) -> bytes:
    async with asyncio.timeout(READ_SECONDS):
        message = await call.read()
    assert isinstance(message, bytes), f"the stream has ended with {await call.code()}: {await call.details()}"
    return message


async def frames(call: Call, chance: random.Random, *, keeps: bool) -> None:
    """Every answer is compared with what it must be, by its tag."""
    first = chance.randrange(NUMBERS)
    waiting = dict(answers(first, keeps))
    for message in messages(first, keeps):
        await call.write(message)
    failed = False
    while waiting or not failed:
        frame = pb.ServerFrame.FromString(await read(call))
        tensors = iter(frame.tensors)
        for event in frame.events:
            if event.kind == Event.DONE:
                assert waiting.pop(event.tag) == next(tensors)
            elif event.kind == Event.FAILED:
                assert (event.tag, failed) == (BAD_TAG, False), event
                failed = True


async def oip_stream(call: Call, chance: random.Random) -> None:
    first = chance.randrange(NUMBERS)

    async def write() -> None:
        for request in oip_requests(first):
            await call.write(request)

    writing = asyncio.create_task(write())
    for number in range(INFERENCES):  # in the order of the requests
        response = oip.ModelStreamInferResponse.FromString(await read(call))
        assert not response.error_message, response.error_message
        assert response.infer_response.id == str(number)
        assert response.infer_response.raw_output_contents[0] == struct.pack("<f", 2.0 * (first + number) + 1)
    await writing


async def one_stream(channel: Channel, kind: str, chance: random.Random) -> None:
    method = MODEL_STREAM_INFER if kind == "Triton's streams" else STREAM
    start: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    call = start()
    if kind == "Triton's streams":
        await oip_stream(call, chance)
    else:
        await frames(call, chance, keeps="keep" in kind)
    if "cancelled" in kind:
        call.cancel()
        return
    await call.done_writing()
    async with asyncio.timeout(READ_SECONDS):
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


KINDS = {"streams of frames": 70, "that keep outputs": 12, "that keep and are cancelled": 8, "Triton's streams": 10}


async def run(address: str, streams: int, seed: int) -> Counter[str]:
    """As many streams, some of them at once, on connections that are replaced now and then."""
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    left = streams

    async def connections() -> None:
        nonlocal left
        while left > 0:
            count = min(left, chance.randrange(1, STREAMS_OF_A_CONNECTION))
            left -= count
            async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                counts["connections"] += 1
                for _ in range(count):
                    (kind,) = chance.choices([*KINDS], [*KINDS.values()])
                    await one_stream(channel, kind, chance)
                    counts[kind] += 1
                    counts["inferences"] += INFERENCES

    await asyncio.gather(*[connections() for _ in range(AT_ONCE)])
    return counts


def processes(address: str, streams: int, seed: int, count: int = 2) -> Counter[str]:
    """The same by so many processes. AssertionError if one of them finds anything wrong."""
    parts = [streams // count + (number < streams % count) for number in range(count)]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.soak.streams", address, str(part), str(seed + number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, part in enumerate(parts)
        if part
    ]
    found: Counter[str] = Counter()
    printed = [process.communicate()[0] for process in started]
    for process, line in zip(started, printed, strict=True):
        assert process.returncode == 0, "a client has found something wrong: see its error above"
        found.update(json.loads(line))
    return found


def main(address: str, streams: str, seed: str) -> None:
    print(json.dumps(asyncio.run(run(address, int(streams), int(seed)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
