"""Layouts: what the tensors of an event are, and arrays made of their bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import datatype_from, numpy_dtype
from headrace.wire.errors import Internal, InvalidArgument, quote
from headrace.wire.tensors import Buffer, byte_count, decode_bytes

Arrays = dict[str, npt.NDArray[Any]]
_array = np.ndarray


class TensorSpec:
    """Name, datatype and shape of one tensor. Raises InvalidArgument for what no tensor can be."""

    __slots__ = ("datatype", "dtype", "name", "nbytes", "shape")

    def __init__(self, tensor: pb.Tensor) -> None:
        self.name = tensor.name
        self.datatype = datatype_from(tensor.datatype)
        self.shape = tuple(tensor.shape)
        self.dtype = numpy_dtype(self.datatype)
        self.nbytes = byte_count(self.datatype, self.shape)
        """None for BYTES."""

    def array(self, data: Buffer) -> npt.NDArray[Any]:
        """A read-only array over the bytes. Raises Internal when they do not fit the spec."""
        if self.nbytes is None:
            return self._strings(data)
        if len(data) != self.nbytes:
            raise Internal(f"the server sent {len(data)} bytes for {self}, not {self.nbytes}")
        return _array(self.shape, self.dtype, data)

    def _strings(self, data: Buffer) -> npt.NDArray[Any]:
        try:
            array = decode_bytes(data, self.shape)
        except InvalidArgument as error:
            raise Internal(f"the server sent no strings for {self}: {error.message}") from None
        array.flags.writeable = False
        return array

    def __str__(self) -> str:
        return f"output {quote(self.name)}, {self.datatype.name}{list(self.shape)}"


class Layout:
    """The tensors that come with an event (`sent`) and those that stay on the server (`kept`)."""

    __slots__ = ("count", "kept", "sent")

    def __init__(self, sent: Iterable[pb.Tensor] = (), kept: Iterable[pb.Tensor] = ()) -> None:
        self.sent = tuple(map(TensorSpec, sent))
        self.kept = tuple(map(TensorSpec, kept))
        self.count = len(self.sent)

    def arrays(self, names: Sequence[str] | None, tensors: Sequence[Buffer]) -> Arrays:
        """The tensors by name.

        `names` are those that the call asked for, in the order in which they come: a port may have
        several names, and the caller wants the one that it used. None: those of the server.
        """
        if names is None or len(names) != self.count:
            names = [spec.name for spec in self.sent]
        arrays: Arrays = {}
        for at, spec in enumerate(self.sent):
            data = tensors[at]
            if len(data) == spec.nbytes:
                # As `spec.array` does, without the call: this is done for every result.
                arrays[names[at]] = _array(spec.shape, spec.dtype, data)
            else:
                arrays[names[at]] = spec.array(data)
        return arrays

    def kept_spec(self, name: str, keep: Sequence[str]) -> TensorSpec | None:
        """What a kept output is. `keep` are the call's names, which the server may not use."""
        if len(self.kept) == len(keep):
            return self.kept[keep.index(name)]
        return next((spec for spec in self.kept if spec.name == name), None)


EMPTY = Layout()
"""Number 0: no tensors."""
