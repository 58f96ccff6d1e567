"""Good requests of both protocols, and changes to them: of their fields, their structure and their bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2

from headrace.oip import open_inference_pb2 as oip
from headrace.v1 import inference_pb2 as pb
from headrace.wire.fields import fields
from headrace.wire.varints import varint

Command = pb.Command
Random: TypeAlias = random.Random
INTEGERS = (
    0,
    1,
    2,
    3,
    15,
    16,
    17,
    127,
    128,
    1 << 14,
    1 << 24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    -1,
    -(2**63),
)
TEXTS = (
    "",
    "x",
    "y",
    "scale",
    "strings",
    "1",
    "-1",
    "\0",
    "é",
    "FP32",
    "BYTES",
    "INT64",
    "n" * 5000,
    "triton_",
    "priority",
)
FLOATS = (0.0, -0.0, 1.0, 1e308, -1e-45, float("inf"), float("nan"))
_INTEGER_LIMITS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_ENUM: (0, 20),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}


def infer_requests() -> Sequence[oip.ModelInferRequest]:
    """Raw and typed contents, several inputs, strings, classes, shared memory, and parameters."""
    x = np.arange(16, dtype=np.float32)
    plain = oip.ModelInferRequest(model_name="scale", id="1", raw_input_contents=[x.tobytes()])
    plain.inputs.add(name="x", datatype="FP32", shape=[16])
    plain.parameters["priority"].int64_param = 1
    plain.parameters["timeout"].uint64_param = 1_000_000
    typed = oip.ModelInferRequest(model_name="scale")
    typed.inputs.add(name="x", datatype="FP32", shape=[16]).contents.fp32_contents.extend(x.tolist())
    integers = oip.ModelInferRequest(model_name="identity_i64")
    integers.inputs.add(name="x", datatype="INT64", shape=[3]).contents.int64_contents.extend([1, -1, 300])
    two = oip.ModelInferRequest(model_name="add_multiply", raw_input_contents=[x.tobytes(), x.tobytes()])
    for name in "xy":
        two.inputs.add(name=name, datatype="FP32", shape=[1, 16])
    two.outputs.add(name="sum").parameters["classification"].int64_param = 3
    two.outputs.add(name="product")
    strings = oip.ModelInferRequest(model_name="strings", raw_input_contents=[b"\2\0\0\0ab\1\0\0\0c"])
    strings.inputs.add(name="x", datatype="BYTES", shape=[2])
    shared = oip.ModelInferRequest(model_name="scale")
    parameters = shared.inputs.add(name="x", datatype="FP32", shape=[16]).parameters
    parameters["shared_memory_region"].string_param = "region"
    parameters["shared_memory_byte_size"].int64_param = 64
    parameters["shared_memory_offset"].int64_param = 0
    return plain, typed, integers, two, strings, shared


def client_frames() -> Sequence[pb.ClientFrame]:
    """Every command, references, zeros and strings."""
    x = np.arange(16, dtype=np.float32).tobytes()

    def source(**fields: Any) -> pb.Input:
        return pb.Input(name="x", **fields)

    inline = source(inline=pb.Inline(datatype=pb.FP32, shape=[16]))
    zeros = source(zeros=pb.Zeros(datatype=pb.FP32, shape=[16]))
    both = pb.Call(model="scale", inputs=[inline], outputs=["y"], keep=["y"], keep_inputs=["x"])
    define = Command(kind=Command.DEFINE, call=1, define=both)
    opened = Command(kind=Command.OPEN, open=pb.Open(max_message_bytes=1 << 20))
    chain = pb.Call(model="scale", inputs=[source(reference=pb.Reference(output="y", take=True))], all_outputs=True)
    cut = pb.Call(model="scale", inputs=[source(reference=pb.Reference(output="x"))], keep_inputs=["x"])
    run = Command(tag=1, call=1, tensors=1, timeout_us=1_000_000, priority=2)
    fetch = pb.Fetch(source=1, output="y", slices=[pb.Slice(start=1, stop=3)])
    strings = source(inline=pb.Inline(datatype=pb.BYTES, shape=[2]))
    return (
        pb.ClientFrame(commands=[opened, define, run], tensors=[x]),
        pb.ClientFrame(
            commands=[
                define,
                Command(kind=Command.DEFINE, call=2, define=chain),
                run,
                Command(kind=Command.FETCH, tag=2, fetch=fetch),
                Command(tag=3, call=2, sources=[1]),
                Command(kind=Command.DEFINE, call=5, define=cut),
                Command(
                    kind=Command.INFER_SLICES,
                    tag=7,
                    call=5,
                    sources=[1],
                    slices=[pb.SourceSlices(slices=[pb.Slice(start=1, stop=3)])],
                ),
                Command(kind=Command.RELEASE, tag=1, release=pb.Release(outputs=["y"])),
                Command(kind=Command.CANCEL, tag=3),
            ],
            tensors=[x],
        ),
        pb.ClientFrame(
            commands=[
                Command(kind=Command.DEFINE, call=3, define=pb.Call(model="scale", inputs=[zeros], all_outputs=True)),
                Command(tag=4, call=3),
                Command(kind=Command.DEFINE, call=4, define=pb.Call(model="strings", inputs=[strings], keep=["same"])),
                Command(tag=5, call=4, tensors=1),
                Command(kind=Command.FETCH, tag=6, fetch=pb.Fetch(source=5, output="same", slices=[pb.Slice(stop=1)])),
            ],
            tensors=[b"\2\0\0\0ab\1\0\0\0c"],
        ),
    )


def unary_requests() -> Sequence[tuple[str, Message]]:
    """Requests of the unary RPCs, without those that would change the server for the requests after them."""
    service, native = "/inference.GRPCInferenceService/", "/headrace.v1.Inference/"
    first = client_frames()[0]
    call = pb.Call(model="scale", inputs=first.commands[1].define.inputs, all_outputs=True)
    log = oip.LogSettingsRequest()
    log.settings["log_file"].string_param = ""
    load = oip.RepositoryModelLoadRequest(model_name="scale")
    load.parameters["config"].string_param = "{}"
    return (
        (native + "Infer", pb.InferRequest(call=call, tensors=first.tensors)),
        (native + "DescribeModel", pb.DescribeModelRequest(name="scale", version="1")),
        (native + "ListModels", pb.ListModelsRequest()),
        (native + "LoadModel", pb.LoadModelRequest(name="scale")),
        (native + "UnloadModel", pb.UnloadModelRequest(name="scale")),
        (native + "ServerStatus", pb.ServerStatusRequest()),
        (service + "ModelMetadata", oip.ModelMetadataRequest(name="scale", version="1")),
        (service + "ModelConfig", oip.ModelConfigRequest(name="scale")),
        (service + "ModelReady", oip.ModelReadyRequest(name="scale")),
        (service + "ModelStatistics", oip.ModelStatisticsRequest(name="scale")),
        (service + "RepositoryIndex", oip.RepositoryIndexRequest(ready=True)),
        (service + "RepositoryModelLoad", load),
        (service + "LogSettings", log),
        (service + "SystemSharedMemoryStatus", oip.SystemSharedMemoryStatusRequest(name="region")),
        (service + "SystemSharedMemoryRegister", oip.SystemSharedMemoryRegisterRequest(name="a", key="b", byte_size=9)),
        ("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest(service="scale")),
    )


LARGEST_MUTANT = 8 << 20
"""One that has been repeated again and again is cut off here. More than a message may have is another matter."""


def mutated(message: Message, random: Random) -> bytes:
    """The message with one to three changes."""
    data = message.SerializeToString()
    for _ in range(random.randint(1, 3)):
        data = random.choice((_change_field, _change_structure, _change_bytes))(data, type(message), random)
    return data[:LARGEST_MUTANT]


def _change_field(data: bytes, kind: type[Message], random: Random) -> bytes:
    """Set, add or clear a field somewhere inside."""
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return data
    target: Message = message
    while True:
        inner = [
            each
            for field, value in target.ListFields()
            if field.message_type is not None and not field.message_type.GetOptions().map_entry
            for each in (value if field.is_repeated else [value])
        ]
        if not inner or random.random() < 0.3:
            break
        target = random.choice(inner)
    known: Sequence[Any] = target.DESCRIPTOR.fields
    if not known:
        return data
    field = random.choice(known)
    if random.random() < 0.1:
        target.ClearField(field.name)
    elif field.message_type is not None:
        _add_message(target, field, random)
    elif field.is_repeated:
        getattr(target, field.name).extend([_value(field, random)] * random.choice((1, 1, 2, 40, 3000)))
    else:
        setattr(target, field.name, _value(field, random))
    return message.SerializeToString()


def _add_message(target: Message, field: FieldDescriptor, random: Random) -> None:
    value = getattr(target, field.name)
    assert field.message_type is not None
    if field.message_type.GetOptions().map_entry:
        value[random.choice(TEXTS)].SetInParent()
    elif field.is_repeated:
        for _ in range(random.choice((1, 2, 1100))):
            if len(value) and random.random() < 0.5:
                value.add().CopyFrom(random.choice(value))
            else:
                value.add()
    else:
        value.SetInParent()


def _value(field: FieldDescriptor, random: Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return random.choice(TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return random.randbytes(random.choice((0, 1, 4, 63, 64, 65, 5000)))
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return random.choice(FLOATS)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return random.random() < 0.5
    return within(field, random.choice(INTEGERS))


def within(field: FieldDescriptor, value: int) -> int:
    """The number that is nearest to it of those that the field may have."""
    low, high = _INTEGER_LIMITS.get(field.type, (-(2**63), 2**63 - 1))
    return min(max(value, low), high)


def _change_structure(data: bytes, _kind: type[Message], random: Random) -> bytes:
    """Drop, repeat, swap, renumber or nest fields of the top level."""
    try:
        stops = [stop for _, _, stop in fields(data, 0, len(data))]
    except IndexError:
        return data
    parts = [data[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
    if not parts:
        return data
    at = random.randrange(len(parts))
    changes: Sequence[Callable[[], object]] = (
        lambda: parts.pop(at),
        lambda: parts.extend([parts[at]] * random.choice((1, 2, 1100))),
        lambda: random.shuffle(parts),
        lambda: parts.__setitem__(at, bytes([random.randrange(256)]) + parts[at][1:]),
        lambda: parts.__setitem__(at, parts[at][:1] + varint(len(parts[at])) + parts[at]),
        lambda: parts.insert(at, varint(random.randrange(8, 1 << 16)) + random.randbytes(random.randrange(12))),
    )
    random.choice(changes)()
    return b"".join(parts)


def _change_bytes(data: bytes, _kind: type[Message], random: Random) -> bytes:
    return changed_bytes(data, random)


def changed_bytes(data: bytes, random: Random) -> bytes:
    """One to eight times some bytes changed, removed, added or cut off."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        at = random.randrange(len(changed) + 1)
        match random.randrange(5):
            case 0:
                changed[at : at + 1] = random.randbytes(1)
            case 1:
                del changed[at : at + random.choice((1, 2, 9))]
            case 2:
                changed[at:at] = random.randbytes(random.choice((1, 2, 9)))
            case 3:
                changed[at : at + 1] = varint(random.choice(INTEGERS) % 2**64)
            case _:
                del changed[at:]
    return bytes(changed)
