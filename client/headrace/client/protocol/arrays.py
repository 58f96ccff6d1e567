"""What a program gives as an input, as an array: numbers and lists, images, and tensors of other libraries. Pure."""

from __future__ import annotations

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from headrace.client.protocol.inputs import KeepsOutputs
from headrace.wire.errors import InvalidArgument, quote

Array: TypeAlias = npt.NDArray[Any]


def as_array(name: str, value: Any) -> tuple[Array, bool]:
    """The array, and whether its values are plain Python numbers, whose dtype NumPy has chosen and nobody else.

    Takes what NumPy takes, images of Pillow included, and tensors of PyTorch and of what has DLPack. Strings stay what
    they are: NumPy's own are padded, and lose trailing zeros.

    Raises InvalidArgument for what is not an array, and TypeError for a ticket.
    """
    if isinstance(value, KeepsOutputs):
        raise TypeError(_is_a_ticket(name, value))
    try:
        if isinstance(value, np.ndarray | np.generic):
            return np.asarray(value), False
        first = _first_element(value)
        if isinstance(first, str | bytes):
            return np.asarray(value, np.object_), False
        array, plain = _converted(value), isinstance(first, bool | int | float) and not isinstance(first, np.generic)
    except (TypeError, ValueError, BufferError, RuntimeError, OverflowError) as error:
        # RuntimeError is how PyTorch says what it cannot convert.
        raise InvalidArgument(f"input {quote(name)} cannot be made an array: {error}") from None
    if plain and array.dtype.kind not in "biufc":
        raise InvalidArgument(f"input {quote(name)} holds more than numbers of at most 64 bits")
    if array.dtype.hasobject:
        raise InvalidArgument(f"input {quote(name)} is a {type(value).__name__}, which is not an array")
    return array, plain


def _is_a_ticket(name: str, ticket: KeepsOutputs) -> str:
    if not ticket.keep:
        return f"input {quote(name)} is a ticket that keeps no output: submit it with keep=[...], and write ticket[...]"
    kept = " or ".join(f"ticket[{quote(output)}]" for output in ticket.keep)
    return f"input {quote(name)} is a ticket: write {kept}"


def _first_element(value: Any) -> Any:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return value


def _converted(value: Any) -> Array:
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a tensor of PyTorch, which may need gradients
        return _from_torch(value.detach().cpu())
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.asarray(np.from_dlpack(value))
    return np.asarray(value)


def _from_torch(tensor: Any) -> Array:
    if str(tensor.dtype) == "torch.bfloat16":  # NumPy has no such dtype, and float32 holds every value of it
        return np.asarray(tensor.float().numpy()).astype(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy())
