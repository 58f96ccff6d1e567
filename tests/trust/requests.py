"""Clients that request good and failing runs, by both protocols, and check every answer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np

import headrace.client as hc
from headrace.oip import open_inference_pb2 as pb
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.wire.dtypes import Datatype
from headrace.wire.tensors import from_wire, to_wire
from tests.trust.failing_models import Array, Arrays, FailingModel

CLIENTS = 8
AHEAD = 4
"""Requests of a client at once."""
Ask = Callable[[Arrays], Awaitable[Array]]


class Failure(Exception):
    """The answer is an error. `code` is its name."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Answers:
    """How many requests succeeded and failed as they should, and what went wrong with the others."""

    good: int = 0
    failed: int = 0
    wrong: list[str] = field(default_factory=list)


@asynccontextmanager
async def by_headrace(target: str, model: str) -> AsyncIterator[Ask]:
    async with hc.connect(target) as server, server.stream() as stream:

        async def ask(inputs: Arrays) -> Array:
            try:
                return (await (await stream.submit(model, inputs)))["y"]
            except hc.HeadraceError as error:
                raise Failure(error.code.name) from None

        yield ask


@asynccontextmanager
async def by_open_inference(target: str, model: str) -> AsyncIterator[Ask]:
    async with grpc.aio.insecure_channel(target) as channel:
        stub = GRPCInferenceServiceStub(channel)

        async def ask(inputs: Arrays) -> Array:
            request = pb.ModelInferRequest(model_name=model)
            for name, value in inputs.items():
                datatype, shape, data = to_wire(value)
                request.inputs.add(name=name, datatype=datatype.name, shape=shape)
                request.raw_input_contents.append(bytes(data))
            try:
                response = await stub.ModelInfer(request, timeout=60)
            except grpc.aio.AioRpcError as error:
                raise Failure(error.code().name) from None
            (output,) = response.outputs
            return from_wire(response.raw_output_contents[0], Datatype[output.datatype], tuple(output.shape))

        yield ask


async def mix(target: str, name: str, model: FailingModel, good: int, bad: int, seed: int = 1) -> Answers:
    """Send these numbers of good and bad requests from all clients together, in random order."""
    answers = Answers()
    kinds = iter(np.random.default_rng(seed).permutation([True] * good + [False] * bad).tolist())
    async with asyncio.TaskGroup() as tasks:
        for client, connect in zip(range(CLIENTS), itertools.cycle((by_headrace, by_open_inference)), strict=False):
            tasks.create_task(_client(connect(target, name), model, kinds, answers, seed * 100 + client))
    return answers


async def _client(connecting: object, model: FailingModel, kinds: Iterator[bool], answers: Answers, seed: int) -> None:
    random = np.random.default_rng(seed)
    async with connecting as ask:  # type: ignore[attr-defined]

        async def work() -> None:
            for good in kinds:
                inputs = model.draw(random, good)
                await _look(ask, model, inputs, good, answers)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AHEAD):
                tasks.create_task(work())


async def _look(ask: Ask, model: FailingModel, inputs: Arrays, good: bool, answers: Answers) -> None:
    try:
        y = await ask(inputs)
    except Failure as failure:
        if not good and failure.code == "INTERNAL":
            answers.failed += 1
        else:
            answers.wrong.append(f"{failure.code} for {'good' if good else 'bad'} {inputs}")
        return
    if good and np.array_equal(y, model.expect(inputs)):
        answers.good += 1
    elif good:
        answers.wrong.append(f"{y.tolist()} instead of {model.expect(inputs).tolist()} for {inputs}")
    else:
        answers.wrong.append(f"an answer, {y.tolist()}, for bad {inputs}")
