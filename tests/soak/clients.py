"""Ten thousand clients that are killed, reset, expire or cancel in the middle of what they do.

    python -m tests.soak.clients DIRECT PROXIED SEED COUNT

is some of them in one process: it prints `busy`, and then how each has ended, until it is killed with those that have
not.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import grpc.aio

from headrace.oip import open_inference_pb2 as oip
from headrace.v1 import inference_pb2 as pb
from tests import models
from tests.e2e.resetting_proxy import ResettingProxy
from tests.e2e.serving import Served
from tests.interop.inferences import (
    MODEL_INFER,
    MODEL_STREAM_INFER,
    STREAM,
    Bystander,
    Command,
    Event,
    events,
    frame,
    model_infer,
    model_infer_answer,
    stream_answer,
)
from tests.soak.findings import Findings
from tests.soak.setting import PATIENCE, SETTLE_SECONDS, Setting, descriptors, threads

CLIENTS, OF_A_PROCESS = 10_000, 200
KILLED, RESET, EXPIRED, CANCELLED = "killed", "reset", "expired", "cancelled"
FATES = {KILLED: 40, RESET: 25, EXPIRED: 20, CANCELLED: 15}
LONGEST_SECONDS = 0.5
"""What has a deadline or cancels does so within these."""
MIB = 1 << 20
OF_EACH_MODEL = 40
GROWTH_MIB = 64
"""Of memory, from what it is when all slots have been used, and before the first of these clients."""
MOST_SECONDS = 30
"""For all of it to be given back. A second is enough where nothing else runs."""
FRAME = 8
"""Inferences of a frame."""
FAILED_WRITE = "Internal error from Core"
"""grpc.aio calls it INTERNAL if a message cannot be written because the call is over."""
Channel = grpc.aio.Channel


class Client:
    """One channel, one way to use it, and one end. Every answer is compared."""

    def __init__(self, channel: Channel, fate: str, chance: random.Random) -> None:
        self.channel, self.fate, self.chance = channel, fate, chance
        self.answers = 0
        self.deadline = chance.random() * LONGEST_SECONDS if fate == EXPIRED else None
        self.calls: list[grpc.aio.StreamStreamCall[bytes, bytes]] = []

    async def pause(self) -> None:
        await asyncio.sleep(self.chance.random() * 0.05)

    def stream(self, method: str) -> grpc.aio.StreamStreamCall[bytes, bytes]:
        start: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = self.channel.stream_stream(method)
        self.calls.append(start(timeout=self.deadline))
        return self.calls[-1]

    async def unary(self, model: str = "scale") -> None:
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(MODEL_INFER)
        until = None if self.deadline is None else time.monotonic() + self.deadline
        while True:
            number = self.chance.randrange(1000)
            left = None if until is None else max(0.0, until - time.monotonic())
            reply = await ask(model_infer(number, model), timeout=left)
            assert model == "slow" or model_infer_answer(reply) == 2 * number + 1
            self.answers += 1
            await self.pause()

    async def slow(self) -> None:
        """Runs on other threads for tens of milliseconds, so that many of these are stopped in a run."""
        await self.unary("slow")

    async def triton(self) -> None:
        call = self.stream(MODEL_STREAM_INFER)
        while True:
            first = self.chance.randrange(1000)
            for number in range(FRAME):
                await call.write(model_infer(first + number, request_id=str(number)))
            for number in range(FRAME):
                assert stream_answer(await self.read(call)) == (str(number), 2 * (first + number) + 1)
                self.answers += 1
            await self.pause()

    async def frames(self) -> None:
        call = self.stream(STREAM)
        tag, define = 1, True
        while True:
            numbers = {tag + each: self.chance.randrange(1000) for each in range(FRAME)}
            await call.write(frame(*numbers.values(), first_tag=tag, define=define))
            tag, define = tag + FRAME, False
            while numbers:
                told, found = events(await self.read(call))
                done = [event.tag for event in told if event.kind == Event.DONE]
                for each, number in zip(done, found, strict=True):
                    assert number == 2 * numbers.pop(each) + 1
                    self.answers += 1
            await self.pause()

    async def keeping(self) -> None:
        """Keeps each output and releases none, and refers to what the slow model has not made yet."""
        call = self.stream(STREAM)
        inline = pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[1]))
        kept = pb.Input(name="x", reference=pb.Reference(output="y"))
        defined = [
            pb.Call(model="slow", inputs=[inline], keep=["y"]),
            pb.Call(model="scale", inputs=[kept], outputs=["y"], keep=["y"]),
        ]
        commands = [Command(kind=Command.DEFINE, call=number, define=each) for number, each in enumerate(defined, 1)]
        tag = 1
        while True:
            commands += [Command(tag=tag, call=1, tensors=1), Command(tag=tag + 1, call=2, sources=[tag])]
            message = pb.ClientFrame(commands=commands, tensors=[b"\0\0\x80?"]).SerializeToString()
            await call.write(message)
            commands, ended = [], 0
            while ended < 2:
                told, found = events(await self.read(call))
                ended += sum(event.kind == Event.DONE for event in told)
                assert all(number == 3 for number in found)
            self.answers += 2
            tag += 2
            await self.pause()

    async def deaf(self) -> None:
        """Asks for 4 MiB again and again, and reads next to nothing."""
        call = self.stream(STREAM)
        opened = Command(kind=Command.OPEN, open=pb.Open(max_message_bytes=64 * MIB))
        inline = pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[1, 16]))
        wide = Command(kind=Command.DEFINE, call=1, define=pb.Call(model="wide", inputs=[inline], all_outputs=True))
        asked = [Command(tag=tag, call=1, tensors=1) for tag in range(1, 5)]
        message = pb.ClientFrame(commands=[opened, wide, *asked], tensors=[bytes(64)] * 4)
        await call.write(message.SerializeToString())
        await self.read(call)
        self.answers += 1
        if self.deadline is None:
            await asyncio.Event().wait()
        await asyncio.sleep(self.deadline or 0)
        while True:
            await self.read(call)

    async def read(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> bytes:
        message = await call.read()
        if not isinstance(message, bytes):
            await self.ended(call)
        assert isinstance(message, bytes)
        return message

    async def ended(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        raise EndedError(await call.code(), await call.details())

    async def live(self) -> str:
        """Until its end. Returns what that was."""
        uses: dict[Callable[[], Coroutine[Any, Any, None]], int] = {
            self.unary: 30,
            self.triton: 15,
            self.frames: 25,
            self.keeping: 15,
            self.slow: 10,
            self.deaf: 5,
        }
        (use,) = self.chance.choices([*uses], [*uses.values()])
        patience = self.chance.random() * LONGEST_SECONDS if self.fate == CANCELLED else None
        try:
            async with asyncio.timeout(patience):
                await use()
        except TimeoutError:
            for call in self.calls:
                call.cancel()
            await self.channel.close()
            return CANCELLED
        except EndedError as error:
            code, details = error.args
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
        except asyncio.InvalidStateError:  # a write to a stream that has ended
            code, details = await self.calls[-1].code(), await self.calls[-1].details()
        if code is grpc.StatusCode.INTERNAL and FAILED_WRITE in details and self.fate in (EXPIRED, RESET):
            return self.fate
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and self.fate == EXPIRED:
            return EXPIRED
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "its deadline is in" in details and self.fate == EXPIRED:
            return EXPIRED  # refused, since it would have been
        if code is grpc.StatusCode.UNAVAILABLE and self.fate == RESET:
            return RESET
        return f"wrong: {use.__name__} was to be {self.fate} and ended with {code}: {details}"


class EndedError(Exception):
    """A stream has ended: a code and details."""


async def crowd(direct: str, proxied: str, seed: int, count: int) -> None:
    chance = random.Random(seed)
    clients: list[Client] = []
    for _ in range(count):
        (fate,) = chance.choices([*FATES], [*FATES.values()])
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        channel = grpc.aio.insecure_channel(proxied if fate == RESET else direct, options)
        clients.append(Client(channel, fate, random.Random(chance.random())))
    await asyncio.gather(*[client.channel.channel_ready() for client in clients])

    async def live(client: Client) -> None:
        try:
            end = await client.live()
        except AssertionError as error:
            end = f"wrong: {error!r}"
        print(end, flush=True)

    living = [asyncio.create_task(live(client)) for client in clients]
    lasting = [client for client in clients if client.fate in (KILLED, RESET)]
    for _ in range(300):  # of a tenth of a second
        if 2 * sum(client.answers > 0 for client in lasting) >= len(lasting):
            break
        await asyncio.sleep(0.1)
    print("busy", flush=True)
    asked = asyncio.to_thread(sys.stdin.readline)
    await asked
    print(f"answers {sum(client.answers for client in clients)}", flush=True)
    await asyncio.gather(*living)
    await asyncio.Event().wait()  # whoever is left is killed


class Crowd:
    """A process of clients, and a thread that counts how they end."""

    def __init__(self, direct: str, proxied: str, seed: int, count: int, ends: Counter[str]) -> None:
        command = [sys.executable, "-m", "tests.soak.clients", direct, proxied, str(seed), str(count)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._count, self._ends = count, ends
        self._busy, self._answered = threading.Event(), threading.Event()
        self._own: Counter[str] = Counter()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "busy\n":
                self._busy.set()
            elif line.startswith("answers "):
                self._ends["answers"] += int(line.split()[1])
                self._answered.set()
            else:
                self._own[line.strip()] += 1
        self._busy.set()
        self._answered.set()

    def live(self, proxy: ResettingProxy, chance: random.Random) -> None:
        """Let some be reset, in bursts, then kill whoever is left."""
        try:
            self._live(proxy, chance)
        finally:
            self._process.kill()
            self._process.wait()
            self._reading.join()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
        self._ends.update(self._own)
        self._ends[KILLED] += self._count - self._own.total()

    def _live(self, proxy: ResettingProxy, chance: random.Random) -> None:
        assert self._busy.wait(300)
        for _ in range(4):
            time.sleep(chance.random() * LONGEST_SECONDS / 2)
            proxy.reset(1 + chance.randrange(OF_A_PROCESS // 4))
        proxy.reset()
        time.sleep(chance.random() * LONGEST_SECONDS / 2)
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._answered.wait(300)
        assert self._process.poll() is None, "a process of clients has ended by itself: see its error above"


def clients(setting: Setting) -> Findings:
    paths = [models.scale(setting.folder), models.slow(setting.folder, steps=2), models.wide(setting.folder)]
    with setting.serving(*paths) as served:
        return live_and_die(served, setting.of(CLIENTS))


def live_and_die(served: Served, count: int, seed: int = 7) -> Findings:
    """So many clients, a process of them after the other, and what is left of them."""
    findings, ends, chance = Findings(), Counter[str](), random.Random(seed)
    pid = served.process.pid
    bystander = Bystander(served.address, PATIENCE)
    with bystander.channel:
        bystander.is_served()
        slots = sum(each.slots_free for each in bystander.status().models)
        files, there = descriptors(pid), len(threads(pid))
        before = 0
        if count > OF_A_PROCESS:  # else it would take longer than all the rest
            _use_all_slots(served.address)
            before = _settled(bystander, served)
        with ResettingProxy(served.address) as proxy:
            left = count
            while left:
                crowded = min(left, OF_A_PROCESS)
                left -= crowded
                crowd = Crowd(served.address, proxy.address, chance.randrange(1 << 30), crowded, ends)
                crowd.live(proxy, chance)
        began = time.monotonic()
        bystander.until_idle()
        back = time.monotonic() - began
        bystander.until(lambda _: descriptors(pid) <= files)
        status = bystander.status()
        answers = ends.pop("answers")
        wrong = [end for end in ends if end not in FATES]
        findings.at_least("clients", ends.total(), count)
        for fate in FATES:
            findings.at_least(f"  {fate}", ends[fate], count // 20)
        findings.equal("wrong answers, or other ends", sum(ends[each] for each in wrong), 0)
        findings.at_least("right answers before that", answers, 1)
        findings.below("seconds until all was given back", back, MOST_SECONDS)
        findings.equal("slots taken and not given back", slots - sum(each.slots_free for each in status.models), 0)
        findings.equal("kept bytes", status.kept_bytes, 0)
        findings.equal("bytes of inputs", status.queued_bytes, 0)
        findings.equal("tickets in flight", status.tickets_in_flight, 0)
        for account in status.accounts:
            if account.name in ("unsent", "keep", "tickets", "definitions"):
                findings.equal(f"bytes in the account {account.name}", account.used_bytes, 0)
        findings.below("more descriptors than before", descriptors(pid) - files, 1)
        findings.below("more threads than before", len(threads(pid)) - there, 8)
        if before:
            grown = (_settled(bystander, served, before + GROWTH_MIB * MIB) - before) / MIB
            findings.below("memory, more than before them", grown, GROWTH_MIB, "MiB")
        waits = min(bystander.is_served() for _ in range(3))
        findings.below("seconds that another client waits at the end", waits, 1)
        for each in wrong:
            print(f"{ends[each]} times {each}", file=sys.stderr)
        return findings


def _use_all_slots(address: str) -> None:
    """So that what each takes for its runs is there before memory is looked at."""
    wide = oip.ModelInferRequest(model_name="wide", raw_input_contents=[bytes(64)])
    wide.inputs.add(name="x", datatype="FP32", shape=[1, 16])
    requests = [wide.SerializeToString(), model_infer(1, "slow"), model_infer(1)]
    with grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)]) as channel:
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(MODEL_INFER)
        for future in [ask.future(request, timeout=PATIENCE) for request in requests * OF_EACH_MODEL]:
            future.result()


def _settled(bystander: Bystander, served: Served, below: float = 0) -> int:
    """The server's memory once it is below a bound or has had time to give back what is free.

    That takes twenty idle seconds.
    """
    bystander.until_idle()
    deadline = time.monotonic() + 2 * SETTLE_SECONDS
    least = served.resident_bytes()
    while time.monotonic() < deadline and least >= below:
        time.sleep(1)
        least = min(least, served.resident_bytes())
    return least


def main(direct: str, proxied: str, seed: str, count: str) -> None:
    asyncio.run(crowd(direct, proxied, int(seed), int(count)))


if __name__ == "__main__":
    main(*sys.argv[1:])
