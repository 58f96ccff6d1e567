"""Every way in which a request can be wrong, and what the answer has to name."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from tritonclient.grpc.service_pb2 import ModelInferRequest

from tests.triton.messages import DATATYPES, Input, request, strings

X, Y = Input("x"), Input("y")
INVALID, NOT_FOUND = "INVALID_ARGUMENT", "NOT_FOUND"


class Bad(NamedTuple):
    request: ModelInferRequest | bytes
    named: str
    """What the sentence names: a regular expression."""
    statuses: tuple[str, ...] = (INVALID,)


def add_multiply(*inputs: Input, **fields: Any) -> ModelInferRequest:
    return request("add_multiply", *inputs, **fields)


def typed(*values: float, datatype: str = "FP32", field: str = "fp32_contents", model: str = "") -> ModelInferRequest:
    """16 numbers are wanted, or for a model with one input as many as its shape says: 2."""
    shape = [2] if model else [1, 16]
    names = ["x"] if model else ["x", "y"]
    message = request(model or "add_multiply", *[Input(name, shape, None, datatype) for name in names])
    for each in message.inputs:
        getattr(each.contents, field).extend(values)
    return message


def raw_and_typed() -> ModelInferRequest:
    message = add_multiply(X, Y)
    message.inputs[1].contents.fp32_contents.extend([0.0] * 16)
    return message


def raw_count(change: int) -> ModelInferRequest:
    message = add_multiply(X, Y)
    if change > 0:
        message.raw_input_contents.append(bytes(64))
    else:
        del message.raw_input_contents[-1]
    return message


def no_data() -> ModelInferRequest:
    return add_multiply(X._replace(data=None), Y._replace(data=None))


def parameter(name: str, **value: Any) -> ModelInferRequest:
    message = add_multiply(X, Y)
    for field, each in value.items():
        setattr(message.parameters[name], field, each)
    return message


def output_parameter(name: str, **value: Any) -> ModelInferRequest:
    message = add_multiply(X, Y, outputs=["sum"])
    for field, each in value.items():
        setattr(message.outputs[0].parameters[name], field, each)
    return message


def one_string(data: bytes, count: int = 1) -> ModelInferRequest:
    return request("strings", Input("x", [count], data, "BYTES"))


NAMES: dict[str, Bad] = {
    "a missing input": Bad(add_multiply(X), "'y'"),
    "no inputs": Bad(add_multiply(), "'[xy]'"),
    "an extra input": Bad(add_multiply(X, Y, Input("z")), "'z'"),
    "an input twice": Bad(add_multiply(X, X), "'x'"),
    "an input twice, and all that are wanted": Bad(add_multiply(X, Y, X), "'x'"),
    "a misnamed input": Bad(add_multiply(X, Input("why")), "'why'|'y'"),
    "an input without a name": Bad(add_multiply(X, Input("")), "''|'y'"),
    "an unknown output": Bad(add_multiply(X, Y, outputs=["sum", "quotient"]), "'quotient'", (INVALID, NOT_FOUND)),
    "an output twice": Bad(add_multiply(X, Y, outputs=["sum", "sum"]), "'sum'"),
    "a hundred thousand outputs": Bad(
        add_multiply(X, Y, outputs=map(str, range(100_000))), "output", (INVALID, NOT_FOUND)
    ),
    "an output a hundred thousand times": Bad(add_multiply(X, Y, outputs=["sum"] * 100_000), "output|'sum'"),
    "a hundred thousand inputs": Bad(add_multiply(*[X._replace(data=b"")] * 100_000), "input|'x'"),
    "an unknown model": Bad(request("nowhere", X, Y), "'nowhere'", (NOT_FOUND,)),
    "no model": Bad(request("", X, Y), "model", (INVALID, NOT_FOUND)),
    "an unknown version": Bad(add_multiply(X, Y, model_version="7"), "7", (NOT_FOUND,)),
    "a version that is not a number": Bad(add_multiply(X, Y, model_version="../1"), r"\.\./1", (INVALID, NOT_FOUND)),
    "a model above": Bad(request("../add_multiply", X, Y), r"\.\./add_multiply", (INVALID, NOT_FOUND)),
    "a model with NUL": Bad(request("add_multiply\0", X, Y), r"add_multiply\\x00", (INVALID, NOT_FOUND)),
    "a model with whitespace": Bad(request(" add\tmultiply\n", X, Y), r"add\\tmultiply", (INVALID, NOT_FOUND)),
    "a model of 300 characters": Bad(request("a" * 300, X, Y), "aaaa", (INVALID, NOT_FOUND)),
    "a model with other letters": Bad(request("mühle", X, Y), "'mühle'", (NOT_FOUND,)),
    "a model of 300,000 characters": Bad(request("a" * 300_000, X, Y), "aaaa", (INVALID, NOT_FOUND)),
}

SHAPES: dict[str, Bad] = {
    "a wrong rank": Bad(add_multiply(X, Input("y", [16])), "'y'"),
    "no rank": Bad(add_multiply(X, Input("y", [], bytes(4))), "'y'"),
    "a thousand dimensions": Bad(add_multiply(X, Input("y", [1] * 1000)), "'y'"),
    "a wrong dimension": Bad(add_multiply(X, Input("y", [1, 17], bytes(68))), "'y'"),
    "a negative dimension": Bad(add_multiply(X, Input("y", [-1, 16])), "'y'"),
    "two negative dimensions": Bad(request("wide", Input("x", [-1, -16])), "'x'"),
    "more than 64 bits": Bad(add_multiply(X, Input("y", [1 << 60, 16])), "'y'"),
    "a multiple of 64 bits": Bad(request("scale", Input("x", [1 << 62], b"")), "'x'"),
    "the largest dimension": Bad(add_multiply(X, Input("y", [(1 << 63) - 1, 16])), "'y'"),
    "an unknown datatype": Bad(add_multiply(X, Y._replace(datatype="FP31")), "FP31"),
    "no datatype": Bad(add_multiply(X, Y._replace(datatype="")), "'y'"),
    "a datatype in lower case": Bad(add_multiply(X, Y._replace(datatype="fp32")), "fp32"),
    "another datatype": Bad(add_multiply(X, Y._replace(datatype="INT32")), "'y'.*INT32|INT32.*'y'"),
    "rows that differ": Bad(request("bounded_add_multiply", Input("x", [9, 16], bytes(576)), Y), "'x'|'y'"),
}

CONTENTS: dict[str, Bad] = {
    "raw and typed together": Bad(raw_and_typed(), "'y'|raw"),
    "a raw content too few": Bad(raw_count(-1), "1.*2|2.*1"),
    "a raw content too many": Bad(raw_count(1), "3.*2|2.*3"),
    "no contents": Bad(no_data(), "'x'"),
    "typed contents too few": Bad(typed(*[1.0] * 15), "'x'"),
    "typed contents too many": Bad(typed(*[1.0] * 17), "'x'"),
    "typed contents of another datatype": Bad(typed(*[1] * 16, field="int_contents"), "'x'"),
    "typed contents of FP16": Bad(typed(1, 2, datatype="FP16", model="identity_f16"), "'x'|FP16"),
    "typed contents of BF16": Bad(typed(1, 2, datatype="BF16", model="identity_bf16"), "'x'|BF16"),
    "typed contents that are too large": Bad(
        typed(1, 300, datatype="INT8", field="int_contents", model="identity_i8"), "'x'"
    ),
    "a string without its length": Bad(one_string(b"\1\0\0"), "'x'"),
    "a string that is cut off": Bad(one_string(strings(b"water")[:-1]), "'x'"),
    "a string that is longer than all": Bad(one_string(b"\xff\xff\xff\xffwater"), "'x'"),
    "a string too few": Bad(one_string(strings(b"water"), 2), "'x'"),
    "a string too many": Bad(one_string(strings(b"water", b"wheel")), "'x'"),
    "a byte behind a string": Bad(one_string(strings(b"water") + b"!"), "'x'"),
    "a billion strings": Bad(one_string(b"", 1 << 30), "'x'"),
    "bytes that are no message": Bad(b"\xff\xff\xff\xff", ""),
    "a message that is cut off": Bad(add_multiply(X, Y).SerializeToString()[:-1], ""),
    "a name that is not valid UTF-8": Bad(b"\x0a\x02\xff\xfe", ""),
    "an id that is not valid UTF-8": Bad(add_multiply(X, Y).SerializeToString() + b"\x1a\x02\xff\xfe", ""),
    "a million contents": Bad(add_multiply(X, Y).SerializeToString() + b"\x3a\x00" * 1_000_000, ""),
    "a million inputs": Bad(add_multiply(X, Y).SerializeToString() + b"\x2a\x00" * 1_000_000, ""),
    "a million parameters": Bad(add_multiply(X, Y).SerializeToString() + b"\x22\x00" * 1_000_000, ""),
    "an empty message": Bad(b"", "model", (INVALID, NOT_FOUND)),
}
for _datatype, _each in DATATYPES.items():
    _size = np.dtype(_each.numpy).itemsize
    for _sign, _change in (("less", -1), ("more", 1)):
        CONTENTS[f"a byte {_sign} of {_datatype}"] = Bad(
            request(_each.model, Input("x", [3], bytes(3 * _size + _change), _datatype)), "'x'"
        )

PARAMETERS: dict[str, Bad] = {
    "a sequence of 1.5": Bad(parameter("sequence_id", double_param=1.5), "sequence_id"),
    "a priority of text": Bad(parameter("priority", string_param="high"), "priority"),
    "a priority below zero": Bad(parameter("priority", int64_param=-1), "priority"),
    "a timeout of text": Bad(parameter("timeout", string_param="soon"), "timeout"),
    "a timeout below zero": Bad(parameter("timeout", int64_param=-1), "timeout"),
    "a reserved parameter that does not exist": Bad(parameter("triton_nonsense", bool_param=True), "triton_nonsense"),
    "a flag that is none": Bad(
        parameter("triton_enable_empty_final_response", string_param="yes"), "triton_enable_empty_final_response"
    ),
    "classes of text": Bad(output_parameter("classification", string_param="many"), "classification|'sum'"),
    "classes below zero": Bad(output_parameter("classification", int64_param=-3), "classification|'sum'"),
}

BAD = {**NAMES, **SHAPES, **CONTENTS, **PARAMETERS}
