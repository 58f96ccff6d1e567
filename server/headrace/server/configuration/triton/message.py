"""Reads a config.pbtxt as a message, and knows on which line each of its fields is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from headrace.oip.model_config_pb2 import ModelConfig
from headrace.server.configuration.key_lines.protobuf_text import protobuf_text_key_lines
from headrace.server.configuration.key_lines.scanner import Key
from headrace.server.configuration.problems import Problems, unknown_key

_UNKNOWN = re.compile(r'Message type "inference\.(?P<message>[\w.]+)" has no field named "(?P<field>[^"]*)"')


class SetField(NamedTuple):
    """A field with another value than the default: its key, with indices, and its name without.

    `has_unknown_number`: it is of an enumeration that has no such number, which the text format admits.
    """

    key: Key
    name: str
    has_unknown_number: bool = False


@dataclass(frozen=True, slots=True)
class ConfigPbtxt:
    """The message, and the line of each of its fields in `file`."""

    config: ModelConfig
    file: str
    lines: Mapping[Key, int]

    def origin(self, *key: str | int) -> str:
        """The file and the line of a field, or of the message that has it."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.lines:
                return f"{self.file}:{self.lines[key[:length]]}"
        return self.file

    def fields(self) -> Iterator[SetField]:
        yield from _fields(self.config, (), "")


def read_pbtxt(file: str, text: str, problems: Problems) -> ConfigPbtxt | None:
    """None if it cannot be read, which `problems` are told."""
    try:
        config = text_format.Parse(text, ModelConfig())
        return ConfigPbtxt(config, file, protobuf_text_key_lines(text, *_repeated_and_maps()))
    except text_format.ParseError as error:
        line = error.GetLine() or 1
        said = str(error).removeprefix(f"{error.GetLine()}:{error.GetColumn()} : ")
        unknown = _UNKNOWN.search(said)
        if unknown is None:
            problems.add(f"{file}:{line}", "", f"it is not a ModelConfig in protobuf's text format: {said}")
        else:
            problems.add(f"{file}:{line}", unknown["field"], unknown_key(unknown["field"], _names(unknown["message"])))
    except (ValueError, RecursionError) as error:
        problems.add(file, "", f"it is not a ModelConfig in protobuf's text format: {error}")
    return None


def dotted_field(key: Key) -> str:
    """A key as in `instance_group[0].kind`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _fields(message: Message, key: Key, name: str) -> Iterator[SetField]:
    for field, value in message.ListFields():
        path = f"{name}.{field.name}" if name else field.name
        inner: Key = (*key, field.name)
        if _is_map(field):
            for each in sorted(value):
                yield SetField((*inner, str(each)), path)
                if isinstance(value[each], Message):
                    yield from _fields(value[each], (*inner, str(each), "value"), path)
        elif field.message_type is None:
            known = field.enum_type.values_by_number if field.enum_type is not None else None
            yield SetField(inner, path, known is not None and value not in known)
        elif _is_repeated(field):
            for index, each in enumerate(value):
                yield SetField((*inner, index), path)
                yield from _fields(each, (*inner, index), path)
        else:
            yield SetField(inner, path)
            yield from _fields(value, inner, path)


def _is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


@cache
def _repeated_and_maps() -> tuple[frozenset[str], frozenset[str]]:
    """The names of all repeated fields, in any message, and of those that are maps."""
    every = [field for each in _messages(ModelConfig.DESCRIPTOR) for field in each.fields if _is_repeated(field)]
    return frozenset(field.name for field in every), frozenset(field.name for field in every if _is_map(field))


@cache
def _messages(descriptor: Descriptor) -> tuple[Descriptor, ...]:
    found: dict[str, Descriptor] = {}
    pending = [descriptor]
    while pending:
        each = pending.pop()
        if each.full_name not in found:
            found[each.full_name] = each
            pending += [field.message_type for field in each.fields if field.message_type is not None]
    return tuple(found.values())


def _names(message: str) -> list[str]:
    """The names of the fields of a message, without its package."""
    found: Any = next(
        (each for each in _messages(ModelConfig.DESCRIPTOR) if each.full_name == f"inference.{message}"), None
    )
    return [field.name for field in found.fields] if found is not None else []
