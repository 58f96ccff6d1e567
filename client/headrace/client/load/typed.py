"""What JSON says, as the dataclasses that it was made of, strictly. Pure."""

from __future__ import annotations

import dataclasses
import math
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from headrace.wire.errors import quote

EXAMPLES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


def typed(hint: Any, value: object, name: str) -> Any:
    """A value of the type `hint`: a dataclass, a union, a Literal, tuple[X, ...], dict[int, X] or a plain type.

    Raises ValueError, which names what is wrong; `name` is what it calls the value.
    """
    if dataclasses.is_dataclass(hint):
        return _fields(hint, value, name)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return _one_of(arguments, value, name)
    if origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
        raise ValueError(f"{name} is none of {', '.join(arguments)}")
    if origin is tuple and isinstance(value, list):
        return tuple(typed(arguments[0], each, f"each of {name}") for each in value)
    if origin is dict and isinstance(value, dict):
        return {_key(key, name): typed(arguments[1], each, f"each of {name}") for key, each in value.items()}
    if hint is float and type(value) is int:
        return _finite(value, name)
    if type(value) is hint:
        return _finite(value, name) if isinstance(value, float) else value
    raise ValueError(f"{name} is not {EXAMPLES.get(hint, 'what it should be')}")


def _fields(hint: Any, value: object, name: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")
    hints = get_type_hints(hint)
    for key in sorted(value.keys() ^ hints.keys()):
        raise ValueError(f"{name} lacks {key}" if key in hints else f"{name} has {quote(key)}, which is unknown")
    return hint(**{key: typed(each, value[key], f"{name}.{key}") for key, each in hints.items()})


def _one_of(hints: tuple[Any, ...], value: object, name: str) -> Any:
    errors = []
    for hint in hints:
        try:
            return typed(hint, value, name)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError(errors[0])


def _key(text: str, name: str) -> int:
    """JSON has numbers as keys only in quotes."""
    if not text.removeprefix("-").isdecimal():
        raise ValueError(f"{name} has {quote(text)}, which is no number")
    return int(text)


def _finite(value: float, name: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is no finite number")
    return number
