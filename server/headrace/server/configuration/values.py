"""Checks the values that a file gives: types are those of the fields, ranges those of the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, time
from functools import cache
from typing import Any, get_args, get_type_hints

from cyclopts import Parameter, Token
from pydantic import TypeAdapter, ValidationError

from headrace.server.settings import Settings

Location = tuple[str | int, ...]


def setting_value(name: str, value: Any) -> Any:
    """The value of a field of Settings. Raises ValueError with a clause that says what is wrong."""
    annotation = _settings_types()[name]
    base, *metadata = get_args(annotation) if hasattr(annotation, "__metadata__") else (annotation,)
    parameters = [each for each in metadata if isinstance(each, Parameter)]
    converters = [each.converter for each in parameters if each.converter is not None]
    if converters and isinstance(value, str | int) and not isinstance(value, bool):
        convert: Any = converters[-1]
        value = convert(base, (Token(value=str(value)),))
    elif converters:
        raise ValueError("a string or an integer is expected")
    else:
        value = checked(base, value)
    validators = [each.validator for each in parameters if each.validator]
    for validate in _flat(validators[-1]) if validators else ():
        validate(base, value)
    return value


def checked(kind: Any, value: Any) -> Any:
    """The value as a field of this type has it. Raises ValueError with a clause about the first thing that is wrong."""
    for _, text in errors(kind, value):
        raise ValueError(text)
    return _adapter(kind).validate_json(json.dumps(value), strict=True)


def errors(kind: Any, value: Any) -> Iterator[tuple[Location, str]]:
    """What is wrong with a value for a field of this type: where inside it, and a clause."""
    try:
        # As JSON, in which a strict tuple is a list and a strict path a string, as in TOML.
        text = json.dumps(value, default=_refuse)
    except TypeError as error:
        yield (), str(error)
        return
    try:
        _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        # Of a value that may have several types, each of them reports what it does not like: the first one that has
        # looked into it is the one that was meant.
        found: dict[Location, str] = {}
        for each in error.errors(include_url=False):
            location = tuple(part for part in each["loc"] if _is_in(value, part))
            found.setdefault(location, each["msg"])
        if len(found) > 1:
            found.pop((), None)
        yield from ((location, text[:1].lower() + text[1:]) for location, text in found.items())


@cache
def _settings_types() -> dict[str, Any]:
    return get_type_hints(Settings, include_extras=True)


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _flat(validators: Any) -> tuple[Any, ...]:
    return tuple(validators) if isinstance(validators, tuple | list) else (validators,)


def _is_in(value: Any, part: str | int) -> bool:
    return isinstance(part, int) or (isinstance(value, dict) and part in value)


def _refuse(value: object) -> object:
    if isinstance(value, date | datetime | time):
        raise TypeError("a date or a time is not expected")
    raise TypeError(f"{type(value).__name__} is not expected")
