"""Checks the values that a file gives: types are those of the fields, ranges those of the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, time
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

from cyclopts import Parameter, Token
from pydantic import Field, TypeAdapter, ValidationError

from headrace.server.settings import Settings

Location = tuple[str | int, ...]
PathText = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
"""Empty, it would be the folder where relative paths start."""
_TOO_DEEP = "it is nested too deeply"
_NOT_JSON = f"{_TOO_DEEP}, or has half of a character"


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
    try:
        return _validated(kind, value)
    except ValidationError as error:
        raise ValueError(next(text for _, text in _clauses(error, value))) from error


def errors(kind: Any, value: Any) -> Iterator[tuple[Location, str]]:
    """What is wrong with a value for a field of this type: where inside it, and a clause."""
    try:
        _validated(kind, value)
    except ValidationError as error:
        yield from _clauses(error, value)
    except ValueError as error:
        yield (), str(error)


def _validated(kind: Any, value: Any) -> Any:
    """Raises ValidationError, and ValueError for what no field takes."""
    try:
        # As JSON, in which a strict tuple is a list and a strict path a string, as in TOML.
        text = json.dumps(value, default=_refuse)
    except TypeError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError:  # of Python, which writes no more than 4300 digits
        raise ValueError("an integer has too many digits") from None
    return _adapter(kind).validate_json(text, strict=True)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Made once for each type: it takes a hundred times as long as what it does."""
    return TypeAdapter(kind)


def _clauses(error: ValidationError, value: Any) -> Iterator[tuple[Location, str]]:
    # Of a value that may have several types, each of them reports what it does not like: the first one that has looked
    # into it is the one that was meant.
    found: dict[Location, str] = {}
    for each in error.errors(include_url=False):
        location = tuple(part for part in each["loc"] if _is_in(value, part))
        text = _NOT_JSON if each["type"] == "json_invalid" else each["msg"]
        found.setdefault(location, text[:1].lower() + text[1:])
    if len(found) > 1:
        found.pop((), None)
    yield from found.items()


@cache
def _settings_types() -> dict[str, Any]:
    return get_type_hints(Settings, include_extras=True)


def _flat(validators: Any) -> tuple[Any, ...]:
    return tuple(validators) if isinstance(validators, tuple | list) else (validators,)


def _is_in(value: Any, part: str | int) -> bool:
    return isinstance(part, int) or (isinstance(value, dict) and part in value)


def _refuse(value: object) -> object:
    if isinstance(value, date | datetime | time):
        raise TypeError("a date or a time is not expected")
    raise TypeError(f"{type(value).__name__} is not expected")
