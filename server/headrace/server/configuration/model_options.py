"""The options of a model, as `[models.NAME]` of the TOML file has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field

from headrace.server.configuration.given import Given, dotted, quoted
from headrace.server.configuration.problems import Problems, unknown_key
from headrace.server.configuration.values import PathText, checked, errors, setting_value
from headrace.server.engine.port_options import ExpectedPort, InputOptions, OutputOptions
from headrace.server.repository.names import MAX_VERSION
from headrace.server.repository.source import NEWEST, ModelSource, VersionPolicy
from headrace.server.settings import Settings
from headrace.wire.limits import MAX_PRIORITY

MAX_WARM_UP = 1000
MAX_WEIGHT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What may be said about a model. What is not given is as the command line has it for all models."""

    path: PathText | None = None
    """File, folder with a model, or folder with a folder for each version."""
    file: str = ""
    """Name of the model's file in its folder, where it is not model.xml, model.onnx or the like."""
    versions: str | list[int] = "latest"
    """Versions to serve: latest, latest N, all, or a list of numbers."""
    device: str | None = None
    """OpenVINO device."""
    run: str | None = None
    """Run in place (direct), on other threads (async), or as measured to be quicker (auto)."""
    hint: str | None = None
    """What to compile the model for if it does not run directly: throughput, latency, none."""
    streams: Annotated[int, Field(ge=1, le=1024)] | Literal["auto", "numa"] | None = None
    """Runs that the runtime does at once (NUM_STREAMS): a number, or as it decides (auto, numa)."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Threads of the runtime for this model (INFERENCE_NUM_THREADS)."""
    precision: Literal["f32", "f16", "bf16", "dynamic"] | None = None
    """Precision in which to compute (INFERENCE_PRECISION_HINT)."""
    cache_capacity: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Entries of the runtime's cache of what it has prepared for a shape (CPU_RUNTIME_CACHE_CAPACITY)."""
    properties: Mapping[str, str | bool | int | float] = field(default_factory=dict)
    """Any other properties of the runtime, in addition to those of --property."""
    slots: int | None = None
    """Concurrent inferences; 0: twice what the device calls optimal."""
    batch: str | int | None = None
    """Rows of a run that tickets share: auto (where it pays off), off, or up to 64."""
    prune: str | None = None
    """Compile it without outputs that clients do not ask for, where that saves a tenth (auto), or never (off)."""
    batch_delay: float | None = None
    """Seconds that a batch waits to fill."""
    max_queue: int | None = None
    """Tickets that may wait for its slots; 0: as many as windows admit."""
    max_queue_seconds: float | None = None
    """Seconds that a ticket may wait for a slot, as estimated when it comes; 0: without limit."""
    weight: Annotated[int, Field(ge=1, le=MAX_WEIGHT)] = 1
    """Share of the machine, compared with that of other models."""
    priority: Annotated[int, Field(ge=0, le=MAX_PRIORITY)] = 0
    """Priority among models: higher ones run first."""
    state: Literal["reset", "ports", "sequence"] = "reset"
    """What becomes of the variables of a model: reset before each run, ports of the model, or part of a sequence."""
    extensions: tuple[str, ...] = ()
    """Packages or library files with operations that the model needs."""
    warm_up: Annotated[int, Field(ge=0, le=MAX_WARM_UP)] = 0
    """Runs of zeros in each slot before the model serves."""
    labels: str = ""
    """File with the names of classes, a line each."""
    inputs: Mapping[str, InputOptions] = field(default_factory=dict)
    """By name; `*` stands for all others."""
    outputs: Mapping[str, OutputOptions] = field(default_factory=dict)
    """By name; `*` stands for all others."""


AS_FLAGS = ("device", "run", "hint", "slots", "batch", "prune", "batch_delay", "max_queue", "max_queue_seconds")
"""Options with the values of the flags of these names."""
INHERITED = {**{name: name for name in AS_FLAGS}, "state": "state", "extensions": "extension"}
"""Options that the command line has for all models, and the names of its settings."""
OWN = ("state", "extensions", "warm_up", "labels", "weight", "priority")
"""The other options that are fields of Compilation."""
PROPERTIES = {
    "streams": "NUM_STREAMS",
    "threads": "INFERENCE_NUM_THREADS",
    "precision": "INFERENCE_PRECISION_HINT",
    "cache_capacity": "CPU_RUNTIME_CACHE_CAPACITY",
}
"""Options that are properties of the runtime."""
PORT_TABLES: dict[str, type] = {"inputs": InputOptions, "outputs": OutputOptions}
_KINDS = get_type_hints(ModelOptions, include_extras=True)


def source_of(name: str, given: Given, settings: Settings, path: Path) -> ModelSource:
    """The source of a model whose options have been checked. `path` is used unless the options have one."""
    options = given.options
    inherited = settings.compilation()
    values: dict[str, Any] = {key: setting_value(key, options[key]) for key in AS_FLAGS if key in options}
    for key in OWN:
        if key in options:
            values[key] = checked(_KINDS[key], options[key])
    compilation = replace(
        inherited,
        **values,
        properties={**inherited.properties, **_properties(options)},
        inputs={port: checked(InputOptions, table) for port, table in options.get("inputs", {}).items()},
        outputs={port: checked(OutputOptions, table) for port, table in options.get("outputs", {}).items()},
        expected=(*_configured_ports(given), *given.expected),
    )
    policy = version_policy(options["versions"]) if "versions" in options else NEWEST
    return ModelSource(name, Path(options.get("path", path)), policy, compilation, options.get("file", ""))


def check_options(given: Given, key: tuple[str, ...], problems: Problems) -> None:
    """Report everything that is wrong with the options of a model. `key` is that of their table."""
    for name, value in given.options.items():
        where, path = given.origin((name,)), (*key, name)
        if name not in _KINDS and isinstance(value, dict):
            whole = quoted(f"{key[-1]}.{name}")
            text = f"unknown key; a model with a dot in its name is written with quotes: models.{whole}"
            problems.add(where, dotted(path), text)
        elif name not in _KINDS:
            problems.add(where, dotted(path), unknown_key(name, _KINDS))
        elif name in AS_FLAGS:
            _check(lambda name=name, value=value: setting_value(name, value), where, path, problems)
        elif name in PORT_TABLES:
            _check_ports(given, name, key, problems)
        elif name == "versions":
            _check(lambda value=value: version_policy(value), where, path, problems)
        else:
            _check_value(_KINDS[name], value, given, (name,), key, problems)
    for name, property in PROPERTIES.items():
        if name in given.options and given.get("properties", property) is not None:
            text = f"the same is given as {name} ({given.origin((name,))})"
            problems.add(given.origin(("properties", property)), dotted((*key, "properties", property)), text)


def version_policy(value: Any) -> VersionPolicy:
    """`latest`, `latest 2`, `all`, or a list of numbers. Raises ValueError."""
    if value == "all":
        return VersionPolicy()
    if isinstance(value, str):
        word, _, number = value.partition(" ")
        if word == "latest" and (not number or (number.isdecimal() and int(number) > 0)):
            return VersionPolicy(latest=int(number or 1))
    elif isinstance(value, list) and value and all(type(each) is int and 0 < each <= MAX_VERSION for each in value):
        return VersionPolicy(listed=frozenset(value))
    raise ValueError('"latest", "latest N", "all" or a list of numbers from 1 up is expected')


def _check(convert: Any, where: str, path: tuple[str, ...], problems: Problems) -> None:
    try:
        convert()
    except ValueError as error:
        problems.add(where, dotted(path), clause(error))


def clause(error: ValueError) -> str:
    """The text of an error as a part of a sentence: validators write whole ones."""
    text = str(error).removesuffix(".")
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def _check_value(
    kind: Any, value: Any, given: Given, path: tuple[str, ...], key: tuple[str, ...], problems: Problems
) -> None:
    for location, text in errors(kind, value):
        inside = (*path, *location)
        problems.add(given.origin(inside), dotted((*key, *inside)), text)


def _check_ports(given: Given, table: str, key: tuple[str, ...], problems: Problems) -> None:
    kind = PORT_TABLES[table]
    known = [each.name for each in fields(kind)]
    ports = given.options[table]
    if not isinstance(ports, dict):
        problems.add(given.origin((table,)), dotted((*key, table)), f"a table for each of the {table} is expected")
        return
    for port, options in ports.items():
        path = (table, port)
        if not isinstance(options, dict):
            problems.add(given.origin(path), dotted((*key, *path)), "a table is expected")
            continue
        for name in options:
            if name not in known:
                problems.add(given.origin((*path, name)), dotted((*key, *path, name)), unknown_key(name, known))
        _check_value(kind, {name: options[name] for name in options if name in known}, given, path, key, problems)


def _properties(options: Mapping[str, Any]) -> dict[str, str]:
    """The properties of the runtime that options name."""
    named = {PROPERTIES[name]: options[name] for name in PROPERTIES if name in options}
    return {key: _property(value) for key, value in {**named, **options.get("properties", {})}.items()}


def _property(value: object) -> str:
    if isinstance(value, bool):
        return "YES" if value else "NO"
    return value.upper() if value in ("auto", "numa") else str(value)


def _configured_ports(given: Given) -> tuple[ExpectedPort, ...]:
    """The ports that options name, which the model must have, beside those that are expected anyway."""
    known = {(each.kind, each.name) for each in given.expected}
    kinds: dict[str, Literal["input", "output"]] = {"inputs": "input", "outputs": "output"}
    return tuple(
        ExpectedPort(kind, port, given.origin((table, port)))
        for table, kind in kinds.items()
        for port in given.options.get(table, {})
        if port != "*" and (kind, port) not in known
    )
