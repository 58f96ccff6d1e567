"""The requests. Each is called what it asks for, and all of them are for the models of `MODELS`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from headrace.oip import open_inference_pb2 as oip
from headrace.v1 import inference_pb2 as pb
from headrace.wire.varints import varint
from tests import models
from tests.costs.measuring import LAST_TAG, STREAM, Costly

MiB = 1 << 20
LARGEST = 64 * MiB
"""The server's default for the largest message."""
BUILDS: Sequence[Callable[[Path], Path]] = (
    models.identity,
    lambda folder: models.identity(folder, "f64"),
    lambda folder: models.identity(folder, "i64"),
    models.strings,
    models.scale,
    models.wide,
    models.add_multiply,
)
REGION, REGION_BYTES = f"headrace_costs_{os.getpid()}", 1 << 30

Command = pb.Command
OIP = "/inference.GRPCInferenceService/"


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def infer(
    model: str, datatype: str, shape: Sequence[int], raw: bytes | None, classes: int = 0, output: str = "same"
) -> bytes:
    request = oip.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    if classes:
        request.outputs.add(name=output).parameters["classification"].int64_param = classes
    return request.SerializeToString() + (b"" if raw is None else field(7, raw))


def typed(model: str, datatype: str, count: int, contents: bytes) -> bytes:
    request = oip.ModelInferRequest(model_name=model)
    start = oip.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=[count]).SerializeToString()
    return request.SerializeToString() + field(5, start + field(5, contents))


def shared(model: str, shape: Sequence[int], nbytes: int) -> bytes:
    request = oip.ModelInferRequest(model_name=model)
    parameters = request.inputs.add(name="x", datatype="FP32", shape=shape).parameters
    parameters["shared_memory_region"].string_param = "region"
    parameters["shared_memory_byte_size"].int64_param = nbytes
    return request.SerializeToString()


def entries(number: int, count: int) -> bytes:
    """A map of as many entries."""
    return b"".join([field(number, b"\x0a\x07%07d" % i) for i in range(count)])


def frame(*commands: pb.Command, tensors: Sequence[bytes] = (), raw: bytes = b"") -> bytes:
    """A frame, `raw` bytes of one, and the Infer that is answered last."""
    return (
        pb.ClientFrame(commands=commands, tensors=tensors).SerializeToString()
        + raw
        + pb.ClientFrame(commands=[Command(tag=LAST_TAG, call=4_000_000)]).SerializeToString()
    )


def define(call: bytes) -> bytes:
    """A DEFINE of call 1, as bytes of a frame."""
    return field(1, b"\x08\x01\x18\x01" + field(8, call))


def call(model: str, shape: Sequence[int], kind: str = "inline", datatype: int = pb.FP32, **fields: Any) -> pb.Call:
    source = pb.Input(name="x")
    getattr(source, kind).datatype = datatype
    getattr(source, kind).shape.extend(shape)
    return pb.Call(model=model, inputs=[source], **fields)


def defined(number: int, described: pb.Call) -> pb.Command:
    return Command(kind=Command.DEFINE, call=number, define=described)


def fetch(tag: int, output: str, *stops: int) -> pb.Command:
    """A Fetch of the first elements of ticket 1's output along each axis."""
    slices = [pb.Slice(stop=stop) for stop in stops]
    return Command(kind=Command.FETCH, tag=tag, fetch=pb.Fetch(source=1, output=output, slices=slices))


def stream(*messages: bytes, runs: bool = False) -> Costly:
    return Costly(STREAM, messages, runs)


def _classification() -> Iterator[tuple[str, Costly]]:
    whole = infer("scale", "FP32", [15_000_000], bytes(60_000_000))
    yield "60 MB through a model, for comparison", Costly(OIP + "ModelInfer", [whole], runs=True)
    rows, row = np.ones(500_000, "<f4").tobytes(), np.ones(1 << 19, "<f4").tobytes()
    many = np.full(16 << 10, 1.7e308).tobytes()
    for name, message in {
        "classes of 500,000 rows": infer("identity_f32", "FP32", [500_000], rows, 1),
        "2^30 classes of a row": infer("scale", "FP32", [1 << 19], row, 1 << 30, "y"),
        "2^30 classes of 40 MB": infer("scale", "FP32", [10_000_000], bytes(40_000_000), 1 << 30, "y"),
        "16,384 classes of 524,288 elements": infer("scale", "FP32", [1 << 19], row, 16 << 10, "y"),
        "16,384 classes of large numbers": infer("identity_f64", "FP64", [16 << 10], many, 1),
    }.items():
        yield name, Costly(OIP + "ModelInfer", [message])


def _strings() -> Iterator[tuple[str, Costly]]:
    for name, message in {
        "16 M empty strings": infer("strings", "BYTES", [16_000_000], bytes(64_000_000)),
        "16,384 strings": infer("strings", "BYTES", [16 << 10], b"\2\0\0\0ab" * (16 << 10)),
        "a string of 60 MB": infer("strings", "BYTES", [1], (60_000_000).to_bytes(4, "little") + b"x" * 60_000_000),
        "a string of 16 MB": infer("strings", "BYTES", [1], (16_000_000).to_bytes(4, "little") + b"x" * 16_000_000),
        "a string of 15 MB among 16,000": infer(
            "strings", "BYTES", [16_000], (15_000_000).to_bytes(4, "little") + b"x" * 15_000_000 + bytes(4 * 15_999)
        ),
        "typed: 8 M empty strings": typed("strings", "BYTES", 8_000_000, b"\x42\0" * 8_000_000),
        "typed: 16,384 empty strings": typed("strings", "BYTES", 16 << 10, b"\x42\0" * (16 << 10)),
    }.items():
        yield name, Costly(OIP + "ModelInfer", [message])
    described = defined(1, call("strings", [1024], datatype=pb.BYTES))
    infers = [Command(tag=tag, call=1, tensors=1) for tag in range(1, 1001)]
    yield "1,000 Infers of 1,024 strings", stream(frame(described, *infers, tensors=[bytes(4096)] * 1000), runs=True)
    kept = defined(1, call("strings", [16 << 10], datatype=pb.BYTES, keep=["same"]))
    fetches = [fetch(tag, "same", 1) for tag in range(2, 1001)]
    yield (
        "999 Fetches of one of 16,384 strings",
        stream(frame(kept, Command(tag=1, call=1, tensors=1), *fetches, tensors=[bytes(64 << 10)])),
    )


def _typed_contents() -> Iterator[tuple[str, Costly]]:
    floats, ones = field(6, bytes(16_000_000)), field(3, b"\1" * (4 * MiB))
    negative = field(3, (b"\xff" * 9 + b"\1") * 400_000)
    for name, message in {
        "typed: 4 M floats, unknown model": typed("nowhere", "FP32", 4_000_000, floats),
        "typed: 16 M bools, unknown model": typed("nowhere", "BOOL", 16_000_000, field(1, b"\1" * 16_000_000)),
        "typed: 3 M strings, unknown model": typed("nowhere", "BYTES", 3_000_000, b"\x42\3abc" * 3_000_000),
        "typed: 4 M floats": typed("identity_f32", "FP32", 4_000_000, floats),
        "typed: 4 M integers": typed("identity_i64", "INT64", 4 * MiB, ones),
        "typed: 400,000 negative integers": typed("identity_i64", "INT64", 400_000, negative),
        "typed: 4 M integers one by one": typed("identity_i64", "INT64", 4_000_000, b"\x18\1" * 4_000_000),
        "typed: 32 MB": typed("identity_f32", "FP32", 8_000_000, field(6, bytes(32_000_000))),
    }.items():
        yield name, Costly(OIP + "ModelInfer", [message])


def _structure() -> Iterator[tuple[str, Costly]]:
    start = oip.ModelInferRequest(model_name="scale").SerializeToString()
    tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32").SerializeToString()
    for name, message in {
        "an id of 60 MB": start + field(3, b"i" * 60_000_000),
        "32 M empty raw contents": start + b"\x3a\0" * 32_000_000,
        "8 M empty inputs": start + b"\x2a\0" * 8_000_000,
        "4 M parameters": start + entries(4, 4_000_000),
        "1,024 parameters of 16 KB": start + b"".join([field(4, field(1, b"%016384d" % i)) for i in range(1000)]),
        "nested: 1 M parameters of an input": start + field(5, tensor + entries(4, 1_000_000)),
        "nested: 100,000 parameters of an output": start + field(6, b"\x0a\1y" + entries(2, 100_000)),
        "a shape of 8 M dimensions": start + field(5, tensor + field(3, b"\1" * 8_000_000)),
        "a shape of 32,000 dimensions": start + field(5, tensor + field(3, b"\1" * 32_000)),
        "16,000 fields of 32 KB": start + b"\x2a\0" * 1000 + field(5, tensor + b"\x22\0" * 15_000),
        "a name of 60 MB": field(1, b"m" * 60_000_000),
        "60 MB of unknown fields": start + b"\x78\1" * 30_000_000,
    }.items():
        yield name, Costly(OIP + "ModelInfer", [message])
    yield (
        "a stream of 100 large requests",
        Costly(
            OIP + "ModelStreamInfer",
            [infer("scale", "FP32", [1 << 19], bytes(2 * MiB), 16 << 10, "y")] * 100,
            runs=True,
        ),
    )


def _without_tensors() -> Iterator[tuple[str, Costly]]:
    full, small = entries(1, 3_500_000), entries(1, 80_000)
    parameters, few = entries(3, 3_500_000), entries(3, 80_000)
    for name, method, message in (
        ("LogSettings of 3.5 M settings", OIP + "LogSettings", full),
        ("LogSettings of 80,000 settings", OIP + "LogSettings", small),
        ("RepositoryModelLoad of 3.5 M parameters", OIP + "RepositoryModelLoad", parameters),
        ("RepositoryModelLoad of 80,000 parameters", OIP + "RepositoryModelLoad", few),
        ("RepositoryModelUnload of 3.5 M parameters", OIP + "RepositoryModelUnload", parameters),
        ("ServerMetadata of 60 MB", OIP + "ServerMetadata", field(99, bytes(60_000_000))),
        ("ServerLive of 500,000 unknown fields", OIP + "ServerLive", b"\x78\1" * 500_000),
        ("ModelMetadata of a name of 1 MB", OIP + "ModelMetadata", field(1, b"n" * 1_000_000)),
        ("TraceSetting of 3.5 M settings", OIP + "TraceSetting", full),
        ("health: a service of 60 MB", "/grpc.health.v1.Health/Check", field(1, b"s" * 60_000_000)),
        ("ServerStatus of 60 MB", "/headrace.v1.Inference/ServerStatus", b"\x78\1" * 30_000_000),
        ("DescribeModel of 60 MB", "/headrace.v1.Inference/DescribeModel", field(1, b"n" * 60_000_000)),
    ):
        yield name, Costly(method, [message])
    info = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    yield "reflection: a symbol of 60 MB", Costly(info, [field(4, b"s" * 60_000_000)])
    yield "reflection: 500 files", Costly(info, [field(4, b"headrace.v1.Inference")] * 500, runs=True)


def _shared_memory() -> Iterator[tuple[str, Costly]]:
    for name, message in {
        "shared memory: 1 GiB for 64 bytes": shared("scale", [16], REGION_BYTES),
        "shared memory: 1 GiB": shared("scale", [REGION_BYTES // 4], REGION_BYTES),
        "shared memory: 1 GiB, unknown model": shared("nowhere", [REGION_BYTES // 4], REGION_BYTES),
        "shared memory: 32 MiB": shared("scale", [8 * MiB], 32 * MiB),
    }.items():
        yield name, Costly(OIP + "ModelInfer", [message])


def _frames() -> Iterator[tuple[str, Costly]]:
    x, dimensions = field(3, b"\x0a\1x"), field(2, b"\1" * 1_000_000)
    source = b"\x08\6\x11" + bytes(7) + b"\1" + field(7, bytes(8))
    for name, raw in {
        "DEFINE of 500,000 empty inputs": define(b"\x1a\0" * 500_000),
        "DEFINE of 120,000 empty inputs": define(b"\x1a\0" * 120_000),
        "DEFINE of 250,000 inline inputs": define(b"\x1a\2\x12\0" * 250_000),
        "DEFINE of 500,000 outputs": define(b"\x0a\5scale" + x + b"\x22\0" * 500_000),
        "DEFINE of 500,000 kept outputs": define(b"\x0a\5scale" + x + b"\x32\0" * 500_000),
        "DEFINE of 500,000 kept inputs": define(b"\x0a\5scale" + x + b"\x3a\0" * 500_000),
        "DEFINE of 1 M dimensions": define(b"\x0a\5scale" + field(3, b"\x0a\1x" + field(2, dimensions))),
        "500 DEFINEs of 900 inputs": define(b"\x1a\0" * 900) * 500,
        "Fetch of 500,000 slices": field(1, b"\x08\2\x11" + bytes(7) + b"\1" + field(9, b"\x1a\0" * 500_000)),
        "1,000 Fetches of 400 slices": field(1, b"\x08\2\x11" + bytes(7) + b"\1" + field(9, b"\x1a\0" * 400)) * 1000,
        "Release of 500,000 outputs": field(1, b"\x08\3\x11" + bytes(8) + field(10, b"\x0a\0" * 500_000)),
        "130,000 empty commands": b"\x0a\0" * 130_000,
        "30 M empty commands": b"\x0a\0" * 30_000_000,
        "120,000 empty tensors": b"\x12\0" * 120_000,
        "30 M empty tensors": b"\x12\0" * 30_000_000,
        "Infer of 120,000 sources": field(1, b"\x11" + bytes(7) + b"\1" + field(7, bytes(8 * 120_000))),
        "Infer of 500,000 slices of a source": field(1, source + field(16, b"\x0a\0" * 500_000)),
        "Infer of slices of 300,000 sources": field(1, source + field(16, b"") * 300_000),
        "1,000 Infers of 300 slices of a source": field(1, source + field(16, b"\x0a\0" * 300)) * 1000,
        "60 MB of unknown fields in a frame": b"\x78\1" * 30_000_000,
    }.items():
        yield name, stream(frame(raw=raw))
    infers = [Command(tag=tag, call=1) for tag in range(1, 1001)]
    bad = pb.Call(model="wide", inputs=[call("", [16]).inputs[0]], outputs=["small", "large", *["small"] * 900])
    yield "1,000 Infers of a call that does not fit", stream(frame(defined(1, bad), *infers))
    zeros = call("scale", [16 * MiB], "zeros")
    yield "200 Infers of 64 MiB of zeros", stream(frame(defined(1, zeros), *infers[:200]), runs=True)
    unary = b"\x0a" + varint(1_000_000) + b"\x1a\0" * 500_000
    yield "unary Infer of 500,000 inputs", Costly("/headrace.v1.Inference/Infer", [unary])
    keep = defined(1, pb.Call(model="wide", inputs=call("", [1, 16]).inputs, keep=["large"]))
    columns = [fetch(tag, "large", 1024, 512) for tag in range(2, 52)]
    first = Command(tag=1, call=1, tensors=1)
    yield "50 Fetches of half of all rows", stream(frame(keep, first, *columns, tensors=[bytes(64)]))


@contextmanager
def region() -> Iterator[Costly]:
    """A sparse shared memory object of a gigabyte, and the request that registers it."""
    path = Path("/dev/shm") / REGION
    with path.open("wb") as file:
        file.truncate(REGION_BYTES)
    try:
        register = oip.SystemSharedMemoryRegisterRequest(name="region", key=REGION, byte_size=REGION_BYTES)
        yield Costly(OIP + "SystemSharedMemoryRegister", [register.SerializeToString()])
    finally:
        path.unlink()


def costly_requests() -> Iterator[tuple[str, Costly]]:
    """One after the other, because they take hundreds of megabytes together."""
    for group in (_classification, _strings, _typed_contents, _structure, _without_tensors, _shared_memory, _frames):
        yield from group()
