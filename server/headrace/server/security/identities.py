"""Identities, their scopes and limits, and the file that says so."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.server.core.clients import NO_LIMITS, ClientLimits
from headrace.server.security.reloaded_files import UnusableFileError, read_file
from headrace.server.security.scopes import Scope
from headrace.server.security.tokens import TokenHash, parse_hash
from headrace.server.sizes import MAX_SIZE, parse_size

_KEYS = ("scopes", "tokens", "rate", "burst", "tickets", "bytes")
ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls."""

    name: str
    scopes: frozenset[Scope]
    limits: ClientLimits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class Identities:
    """By name, and by the ids of their tokens."""

    by_name: Mapping[str, Identity] = field(default_factory=dict)
    by_token: Mapping[str, tuple[TokenHash, Identity]] = field(default_factory=dict)


def read_identities(path: Path, defaults: ClientLimits, workers: int = 1) -> Identities:
    """What a file says. Limits that it does not have are those of `defaults`; one of `workers` has a share of them.

    Raises UnusableFileError.
    """
    text = read_file(path, "identities")
    try:
        return parse_identities(text.decode(), defaults, workers)
    except (ValueError, RecursionError) as error:  # those of TOML and of UTF-8 are such, too
        why = "it is not UTF-8" if isinstance(error, UnicodeError) else error
        raise UnusableFileError(f"the identities in {path} cannot be used: {why}") from None


def parse_identities(text: str, defaults: ClientLimits, workers: int = 1) -> Identities:
    """The identities of a TOML document: each is a table. Raises ValueError, which shows nothing of a token."""
    by_name: dict[str, Identity] = {}
    by_token: dict[str, tuple[TokenHash, Identity]] = {}
    for name, table in tomllib.loads(text).items():
        try:
            if not isinstance(table, dict):
                raise ValueError("a table is expected")
            identity, hashes = _identity(name, table, defaults, workers)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        by_name[name] = identity
        for each in hashes:
            if each.id in by_token:
                raise ValueError(f"{name}: tokens: a token may be listed once, and {each.id} is listed again")
            by_token[each.id] = each, identity
    return Identities(by_name, by_token)


def identity_lines(name: str, scopes: Iterable[Scope], token: TokenHash) -> str:
    """A new identity, as the file has it."""
    key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
    listed = ", ".join(f'"{each}"' for each in scopes)
    return f'[{key}]\nscopes = [{listed}]\ntokens = ["{token}"]\n'


def _identity(
    name: str, table: Mapping[str, Any], defaults: ClientLimits, workers: int
) -> tuple[Identity, list[TokenHash]]:
    for key in table:
        if key not in _KEYS:
            raise ValueError(f"there is no key {key!r}; there are {', '.join(_KEYS)}")
    if "scopes" not in table:
        raise ValueError(f"scopes are missing; there are {', '.join(Scope)}")
    limits = ClientLimits(
        _number(table, "rate", defaults.rate),
        int(_number(table, "burst", defaults.burst, whole=True)),
        int(_number(table, "tickets", defaults.tickets, whole=True)),
        _size(table, "bytes", defaults.nbytes),
    )
    scopes = frozenset(map(_scope, _strings(table, "scopes")))
    return Identity(name, scopes, limits.share(workers)), [_hash(text) for text in _strings(table, "tokens")]


def _strings(table: Mapping[str, Any], key: str) -> list[str]:
    values = table.get(key, [])
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise ValueError(f"{key}: a list of strings is expected")
    return values


def _scope(text: str) -> Scope:
    try:
        return Scope(text)
    except ValueError:
        raise ValueError(f"scopes: {text!r} is none; there are {', '.join(Scope)}") from None


def _hash(text: str) -> TokenHash:
    try:
        return parse_hash(text)
    except ValueError as error:
        raise ValueError(f"tokens: {error}") from None


def _number(table: Mapping[str, Any], key: str, default: float, *, whole: bool = False) -> float:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not 0 <= value < 1 << 53:
        raise ValueError(f"{key}: a {'whole ' if whole else ''}number is expected, 0 for no limit")
    return value


def _size(table: Mapping[str, Any], key: str, default: int) -> int:
    size = table.get(key, default)
    if isinstance(size, str):
        with suppress(ValueError):
            size = parse_size(size)
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_SIZE:
        raise ValueError(f'{key}: a number of bytes, or a size such as "64MiB", is expected; 0 for no limit')
    return size
