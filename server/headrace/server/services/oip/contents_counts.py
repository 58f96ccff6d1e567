"""Counts what a large description holds, before protobuf parses it and before anything is converted.

A small one is bounded by its size. A megabyte of empty inputs, parameters or strings takes protobuf a hundred times
its size in memory, and Python a second.
"""

from __future__ import annotations

from headrace.oip import open_inference_pb2 as pb
from headrace.wire.errors import InvalidArgument
from headrace.wire.fields import fields
from headrace.wire.frames import MAX_OVERHEAD
from headrace.wire.limits import MAX_PORTS, MAX_STRINGS

MAX_FIELDS = 8 * MAX_PORTS
"""The limit for the fields of a request, with those of its inputs and outputs. Unknown fields count."""
MAX_INTEGER_BYTES = 1 << 20
"""The limit for the integers in the typed contents of a request, which take 30 ns and 60 bytes of memory each.
Floats are only copied."""

_INPUTS, _OUTPUTS = (
    pb.ModelInferRequest.DESCRIPTOR.fields_by_name[name].number << 3 | 2 for name in ("inputs", "outputs")
)
_CONTENTS = pb.ModelInferRequest.InferInputTensor.DESCRIPTOR.fields_by_name["contents"].number << 3 | 2
_TYPED = pb.InferTensorContents.DESCRIPTOR.fields_by_name
_STRINGS = _TYPED["bytes_contents"].number << 3 | 2
_FLOATS = {_TYPED[name].number << 3 | 2 for name in ("fp32_contents", "fp64_contents")}


def check_description(description: bytes) -> None:
    """Raises InvalidArgument for a description that has too much of anything, IndexError for one that is cut off."""
    _Counts(description).check()


class _Counts:
    def __init__(self, description: bytes) -> None:
        self._description = description
        self._fields = self._integer_bytes = self._strings = 0
        self._overhead = len(description)

    def check(self) -> None:
        for key, start, stop in fields(self._description, 0, len(self._description)):
            self._count_field()
            if key == _INPUTS:
                self._check_input(start, stop)
            elif key == _OUTPUTS:
                for _ in fields(self._description, start, stop):
                    self._count_field()
        if self._overhead > MAX_OVERHEAD:
            raise InvalidArgument(
                f"a request has {self._overhead} bytes besides the contents of its tensors; the limit is {MAX_OVERHEAD}"
            )

    def _check_input(self, start: int, stop: int) -> None:
        for key, inner, end in fields(self._description, start, stop):
            self._count_field()
            if key == _CONTENTS:
                self._overhead -= end - inner
                self._check_contents(inner, end)

    def _check_contents(self, start: int, stop: int) -> None:
        for key, inner, end in fields(self._description, start, stop):
            if key == _STRINGS:
                self._strings += 1
                if self._strings > MAX_STRINGS:
                    raise InvalidArgument(f"the inputs of a request hold more than {MAX_STRINGS} elements of BYTES")
                continue
            self._count_field()
            if key not in _FLOATS:
                self._integer_bytes += end - inner
                if self._integer_bytes > MAX_INTEGER_BYTES:
                    raise InvalidArgument(
                        f"a request has more than {MAX_INTEGER_BYTES} bytes of integers in typed contents; use "
                        "raw_input_contents"
                    )

    def _count_field(self) -> None:
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise InvalidArgument(f"a request has more than {MAX_FIELDS} fields")
