"""Layouts: the names, datatypes and shapes of an event's tensors, and the arrays over their bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import datatype_from, numpy_dtype
from headrace.wire.errors import Internal, InvalidArgument, quote
from headrace.wire.tensors import Buffer, byte_count, decode_bytes

Outputs: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""The output arrays for each name."""
_array = np.ndarray


class TensorSpec:
    """Name, datatype and shape of a tensor. Raises InvalidArgument if there cannot be such a tensor."""

    __slots__ = ("datatype", "dtype", "name", "nbytes", "shape")

    def __init__(self, tensor: pb.Tensor) -> None:
        self.name = tensor.name
        self.datatype = datatype_from(tensor.datatype)
        self.shape = tuple(tensor.shape)
        self.dtype = numpy_dtype(self.datatype)
        self.nbytes = byte_count(self.datatype, self.shape)
        """None for BYTES."""

    def array(self, data: Buffer) -> npt.NDArray[Any]:
        """A read-only array over the bytes. Raises Internal if they do not match the spec."""
        if self.nbytes is None:
            return self._strings(data)
        if len(data) != self.nbytes:
            raise Internal(f"the server sent {len(data)} bytes for {self}, which takes {self.nbytes}")
        return _array(self.shape, self.dtype, data)

    def _strings(self, data: Buffer) -> npt.NDArray[Any]:
        try:
            array = decode_bytes(data, self.shape)
        except InvalidArgument as error:
            raise Internal(f"the server sent invalid strings for {self}: {error.message}") from None
        array.flags.writeable = False
        return array

    def __str__(self) -> str:
        return f"output {quote(self.name)}, {self.datatype.name}{list(self.shape)}"


class Layout:
    """The tensors that an event brings (`sent`) and those that stay on the server (`kept`)."""

    __slots__ = ("count", "fingerprint", "kept", "sent", "version")

    def __init__(
        self,
        sent: Iterable[pb.Tensor] = (),
        kept: Iterable[pb.Tensor] = (),
        version: str = "",
        fingerprint: int = 0,
    ) -> None:
        self.sent = tuple(map(TensorSpec, sent))
        self.kept = tuple(map(TensorSpec, kept))
        self.count = len(self.sent)
        self.version = version
        """The version of the model that has run; empty if there is none."""
        self.fingerprint = fingerprint
        """It depends on the files of the model; 0 if it is not known."""

    def first(self, count: int) -> Layout:
        """The same layout with only the first tensors that are sent."""
        layout = Layout(version=self.version, fingerprint=self.fingerprint)
        layout.sent, layout.kept, layout.count = self.sent[:count], self.kept, count
        return layout

    def arrays(self, names: Sequence[str] | None, tensors: Sequence[Buffer]) -> Outputs:
        """The tensors by name.

        `names` are the outputs that the call asked for, in the same order. A port may have several names, and the
        application expects the one that it used. None stands for the names of the server.
        """
        if names is None or len(names) != self.count:
            names = [spec.name for spec in self.sent]
        arrays: dict[str, npt.NDArray[Any]] = {}
        for at, spec in enumerate(self.sent):
            data = tensors[at]
            if len(data) == spec.nbytes:
                # What `spec.array` does, without the call, because every result passes here.
                arrays[names[at]] = _array(spec.shape, spec.dtype, data)
            else:
                arrays[names[at]] = spec.array(data)
        return arrays

    def kept_spec(self, name: str, keep: Sequence[str]) -> TensorSpec | None:
        """The spec of a kept output. `keep` holds the names of the call, which may differ from the server's."""
        if len(self.kept) == len(keep):
            return self.kept[keep.index(name)]
        return next((spec for spec in self.kept if spec.name == name), None)


EMPTY = Layout()
"""Layout 0: no tensors."""
