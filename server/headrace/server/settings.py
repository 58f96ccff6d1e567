"""Every option of the server, written once: flag, environment variable and setting in a file all come from here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token, validators

from headrace.server.core.specs import MAX_BATCH

_UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"(\d+) *([KMG]i?B|B)?", re.IGNORECASE)


def to_bytes(_type: Any, tokens: tuple[Token, ...]) -> int:
    """`67108864` or `64MiB`. Raises ValueError."""
    text = tokens[0].value
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no size; write bytes, or for example 64MiB")
    return int(match[1]) * _UNITS[(match[2] or "").upper()]


def check_properties(_type: Any, properties: tuple[str, ...]) -> None:
    for each in properties:
        if not re.fullmatch(r"[^=]+=.*", each):
            raise ValueError(f"{each!r} is not KEY=VALUE")


def show_bytes(size: int) -> str:
    """`64MiB`, as `to_bytes` reads it."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)


Size = Annotated[int, Parameter(converter=to_bytes, validator=validators.Number(gte=1), show_default=show_bytes)]
Count = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=65536))]
Pause = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=3600))]
"""Seconds that are always waited."""
Seconds = Annotated[float, Parameter(validator=validators.Number(gte=0))]
"""`inf` is for ever."""


def to_rows(_type: Any, tokens: tuple[Token, ...]) -> int | None:
    """`auto`, `off` or rows of 2 or more. Raises ValueError."""
    text = tokens[0].value
    if text == "auto":
        return None
    if text == "off":
        return 1
    if not text.isdecimal() or not 2 <= int(text) <= MAX_BATCH:
        raise ValueError(f"{text!r} is neither auto nor off nor a number from 2 to {MAX_BATCH}")
    return int(text)


Port = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65535))]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Settings:
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8001
    """Port to listen on; 0 picks a free one."""
    device: str = "CPU"
    """OpenVINO device."""
    run: Literal["auto", "direct", "async"] = "auto"
    """Direct: quick runs in place; auto: for models measured to be quick."""
    hint: Literal["throughput", "latency", "none"] = "throughput"
    """What models are compiled for that do not run directly."""
    property: Annotated[tuple[str, ...], Parameter(validator=check_properties, negative="")] = ()
    """Plugin property KEY=VALUE; repeatable."""
    slots: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=1024))] = 0
    """Inferences of a model at once; 0: twice what the device calls optimal."""
    batch: Annotated[int | None, Parameter(converter=to_rows, show_default=lambda _: "auto")] = None
    """Rows of a run that tickets share: auto (where it pays), off, or up to 64."""
    batch_delay: Pause = 0.0
    """Seconds that a batch waits to be full."""
    coalesce: Literal["auto", "off"] = "auto"
    """Let single requests wait for each other (at most 2 ms) where many arrive."""
    busy_poll: Pause = 200e-6
    """Seconds of looking for messages before sleeping; 0: none."""
    streams: Count = 4096
    """Streams and unary calls at once; more are refused."""
    window: Count = 1024
    """Tickets of a stream in flight."""
    max_message_bytes: Size = 64 << 20
    """Largest message taken."""
    queue_bytes: Size = 1 << 30
    """Input bytes that wait or run, in all."""
    unsent_bytes: Size = 64 << 20
    """Output bytes that wait for a stream's client."""
    keep_bytes: Size = 256 << 20
    """Kept outputs of a stream."""
    keep_bytes_total: Size = 1 << 30
    """Kept outputs in all."""
    keep_seconds: Seconds = 300.0
    """How long an output is kept after its last use; inf: until it is released."""
    drain_delay: Pause = 0.0
    """Seconds to go on serving after the first SIGTERM, though not ready any more."""
    grace: Seconds = 30.0
    """Seconds to finish in after that."""
    model_control: Annotated[bool, Parameter(negative="")] = False
    """Let clients load and unload models, and change the log's verbosity."""
    compression: Literal["none", "gzip", "deflate"] = "none"
    """How responses are compressed; requests may be anyhow."""
    shared_memory: Annotated[bool, Parameter(negative="")] = False
    """Let clients pass tensors in POSIX shared memory."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What goes to standard error."""


def as_properties(pairs: tuple[str, ...]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in pairs)
