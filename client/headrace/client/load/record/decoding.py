"""Decodes parsed JSON into the dataclasses it was written from, strictly. Pure."""

from __future__ import annotations

import dataclasses
import math
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from headrace.wire.errors import quote

DESCRIPTIONS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


def decode(hint: Any, value: object, name: str) -> Any:
    """A value of type `hint`: a dataclass, a union, a Literal, tuple[X, ...], dict[int, X] or a plain type.

    Raises ValueError with a message that says what is wrong and refers to the value as `name`.
    """
    if dataclasses.is_dataclass(hint):
        return _decode_fields(hint, value, name)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return _decode_union(arguments, value, name)
    if origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
        raise ValueError(f"{name} must be one of {', '.join(arguments)}")
    if origin is tuple and isinstance(value, list):
        return tuple(decode(arguments[0], each, f"each of {name}") for each in value)
    if origin is dict and isinstance(value, dict):
        return {_decode_key(key, name): decode(arguments[1], each, f"each of {name}") for key, each in value.items()}
    if hint is float and type(value) is int:
        return _finite(value, name)
    if type(value) is hint:
        return _finite(value, name) if isinstance(value, float) else value
    raise ValueError(f"{name} is not {DESCRIPTIONS.get(hint, 'of the right type')}")


def _decode_fields(hint: Any, value: object, name: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")
    hints = get_type_hints(hint)
    for key in sorted(value.keys() ^ hints.keys()):
        raise ValueError(f"{name} lacks {key}" if key in hints else f"{name} has an unknown key {quote(key)}")
    return hint(**{key: decode(each, value[key], f"{name}.{key}") for key, each in hints.items()})


def _decode_union(hints: tuple[Any, ...], value: object, name: str) -> Any:
    errors = []
    for hint in hints:
        try:
            return decode(hint, value, name)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError(errors[0])


def _decode_key(text: str, name: str) -> int:
    """A key of a JSON object, which is always text, as an integer."""
    if not text.removeprefix("-").isdecimal():
        raise ValueError(f"{name} has a key {quote(text)} that is not a whole number")
    return int(text)


def _finite(value: float, name: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is not a finite number")
    return number
