"""Every option of the server, written once: flag, environment variable and key of the file all come from here."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token, validators

from headrace.server.core.limits import Limits
from headrace.server.core.specs import MAX_BATCH
from headrace.server.engine.compilation import Compilation
from headrace.server.process_memory import available_bytes
from headrace.server.processors import available_processors, scheduled_processors
from headrace.server.sizes import MAX_SIZE, format_size, parse_size
from headrace.wire.limits import MAX_PRIORITY

MIN_MEMORY = 1 << 20
"""Of which a quarter is for tickets: 256 of them."""
_DEFAULTS = Limits()
MAX_GRPC_MESSAGE_BYTES = (1 << 31) - 1


def read_size(_type: Any, tokens: tuple[Token, ...]) -> int:
    """`67108864` or `64MiB`, in bytes. Raises ValueError."""
    return parse_size(tokens[0].value)


def parse_rows(_type: Any, tokens: tuple[Token, ...]) -> int | None:
    """`auto` (None), `off` (1), or a number of rows from 2 up. Raises ValueError."""
    text = tokens[0].value
    if text == "auto":
        return None
    if text == "off":
        return 1
    if not text.isdecimal() or not 2 <= int(text) <= MAX_BATCH:
        raise ValueError(f"{text!r} is neither auto nor off nor a number from 2 to {MAX_BATCH}")
    return int(text)


def check_properties(_type: Any, properties: tuple[str, ...]) -> None:
    """Raises ValueError for a property that is not KEY=VALUE."""
    for each in properties:
        if not re.fullmatch(r"[^=]+=.*", each):
            raise ValueError(f"{each!r} is not of the form KEY=VALUE")


def check_folders(_type: Any, folders: Path | tuple[Path, ...] | None) -> None:
    """Raises ValueError for what no folder is called."""
    for folder in folders if isinstance(folders, tuple) else (folders,):
        if "\0" in str(folder):
            raise ValueError(f"{str(folder)!r} is not a path")


def check_endpoint(_type: Any, endpoint: str | None) -> None:
    """Raises ValueError for what is not the address of a collector."""
    if endpoint is not None and not re.fullmatch(r"(https?://)?[^/\s]+:\d{1,5}/?", endpoint):
        raise ValueError(f"{endpoint!r} is not the address of a collector, such as http://127.0.0.1:4317")


def check_host(_type: Any, host: str) -> None:
    """Raises ValueError for what cannot be a host name, an address, or a socket."""
    if host.startswith(("unix:", "unix-abstract:")):
        if not host.partition(":")[2].strip("/"):
            raise ValueError(f"{host!r} does not name a socket: give a path, such as unix:/run/headrace.sock")
        if "," in host:
            raise ValueError(f"{host!r} cannot be reached: gRPC does not find a socket whose path has a comma")
    elif host.startswith("["):
        if not host.endswith("]") or not _is_ipv6(host[1:-1]):
            raise ValueError(f"{host!r} is not an IPv6 address in brackets, such as [::1]")
    elif not host or "/" in host or any(map(str.isspace, host)):
        raise ValueError(f"{host!r} is not a host name or an address, such as 127.0.0.1 or unix:/run/headrace.sock")
    elif ":" in host and not _is_ipv6(host):
        raise ValueError(f"{host!r} is not an IPv6 address; the port is an option of its own, --port")


def check_port(_type: Any, port: int | None) -> None:
    """Raises ValueError for a number that no port has."""
    if port is not None and not 0 <= port <= 65535:
        raise ValueError(f"{port} is not a port: those are from 1 to 65535, and 0 picks a free one")


def check_internet_host(_type: Any, host: str) -> None:
    """Raises ValueError for what cannot be a host name or an address."""
    if host.startswith(("unix:", "unix-abstract:")):
        raise ValueError(f"{host!r} is a socket, which no scraper reaches; give an address, such as 127.0.0.1")
    check_host(_type, host)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def check_message_bytes(_type: Any, size: int) -> None:
    """Raises ValueError for messages that gRPC does not take."""
    if size > MAX_GRPC_MESSAGE_BYTES:
        raise ValueError(f"gRPC takes messages of at most {MAX_GRPC_MESSAGE_BYTES} bytes, one less than 2GiB")


def check_memory(_type: Any, size: int | None) -> None:
    """Raises ValueError for a budget that admits next to nothing, and for one that no machine has."""
    if size is not None and not MIN_MEMORY <= size <= MAX_SIZE:
        raise ValueError(f"a budget has at least {format_size(MIN_MEMORY)} and at most {MAX_SIZE} bytes")


Port = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65535))]
Size = Annotated[
    int,
    Parameter(converter=read_size, validator=validators.Number(gte=1, lte=MAX_SIZE), show_default=format_size),
]
MessageSize = Annotated[Size, Parameter(validator=(validators.Number(gte=1), check_message_bytes))]
File = Annotated[Path | None, Parameter(validator=check_folders, show_default=lambda _: "none")]
Count = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=65536))]
Ratio = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))]
Limit = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=1 << 32))]
Rate = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1e9))]
Pause = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=3600))]
"""Seconds that are always waited."""
Seconds = Annotated[float, Parameter(validator=validators.Number(gte=0))]
"""`inf` means without limit."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options. Those that the core enforces take their defaults from `Limits` and have its fields' names."""

    host: Annotated[str, Parameter(validator=check_host)] = "127.0.0.1"
    """Address to listen on, or unix:PATH."""
    port: Port = 8001
    """Port to listen on; 0 picks a free one."""
    tls_cert: File = None
    """Certificate of this server, with its chain, in PEM: calls are encrypted. Read again when it changes."""
    tls_key: File = None
    """Private key of the certificate, in PEM."""
    tls_ca: File = None
    """CA certificates in PEM: clients must show a certificate that one of them has signed (mutual TLS)."""
    identities: File = None
    """File of those who may call: tokens, scopes, limits (`headrace-server token`). Read again when it changes."""
    identity_from: Literal["token", "certificate"] = "token"
    """What tells who calls: a token of the file, or a name in the client's certificate."""
    identity_rate: Rate = 0.0
    """Inferences a second of each identity, unless the file gives it another limit; 0: no limit."""
    identity_burst: Limit = 0
    """Of these, how many may come at once after a pause; 0: those of one second."""
    identity_tickets: Limit = 0
    """Tickets in flight of each identity, unless the file says otherwise; 0: no limit."""
    identity_bytes: Annotated[
        int, Parameter(converter=read_size, validator=validators.Number(gte=0, lte=MAX_SIZE), show_default=str)
    ] = 0
    """Input bytes in flight of each identity, unless the file says otherwise; 0: no limit."""
    health: Literal["open", "closed"] = "open"
    """Answer health checks to everybody (open), or to those who may call anything (closed)."""
    metrics_port: Annotated[int | None, Parameter(validator=check_port, show_default=lambda _: "off")] = None
    """Port for /metrics, /healthz and /readyz over HTTP; 0 picks a free one, which is printed."""
    metrics_host: Annotated[str, Parameter(validator=check_internet_host)] = "127.0.0.1"
    """Address to listen on for those."""
    workers: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=256))] = 1
    """Processes that serve on the port together, each with its share of the processors and the limits."""
    transport: Literal["auto", "completion-queue", "aio"] = "auto"
    """What carries calls: gRPC's completion queue, or grpc.aio; auto: the former where it is suited."""
    repository: Annotated[tuple[Path, ...], Parameter(validator=check_folders, negative="", show_default=False)] = ()
    """Folder of models, each in a folder of its own with a folder for each version; repeatable."""
    watch: Annotated[bool, Parameter(negative="")] = False
    """Follow changes of models on disk, once they have settled."""
    follow_links: Annotated[bool, Parameter(negative="")] = False
    """Serve files of a repository through links that lead out of it."""
    device: str = "CPU"
    """OpenVINO device."""
    run: Literal["auto", "direct", "async"] = "auto"
    """Run in place (direct), on other threads (async), or as measured to be quicker (auto)."""
    hint: Literal["throughput", "latency", "none"] = "throughput"
    """What to compile models for that do not run directly."""
    property: Annotated[tuple[str, ...], Parameter(validator=check_properties, negative="")] = ()
    """OpenVINO property KEY=VALUE; repeatable."""
    extension: Annotated[tuple[str, ...], Parameter(negative="")] = ()
    """Package or library file with operations that models need, such as openvino_tokenizers; repeatable."""
    slots: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=1024))] = 0
    """Concurrent inferences per model; 0: twice what the device calls optimal."""
    batch: Annotated[int | None, Parameter(converter=parse_rows, show_default=lambda _: "auto")] = None
    """Rows of a run that tickets share: auto (where it pays off), off, or up to 64."""
    state: Literal["reset", "ports", "sequence"] = "reset"
    """Variables of models: reset before each run, ports (clients carry them), or kept by sequence_id (sequence)."""
    load_timeout: Annotated[float, Parameter(validator=validators.Number(gt=0))] = 300.0
    """Seconds that trying a model, in a process of its own, may take; inf: without limit."""
    cache_dir: Annotated[Path | None, Parameter(validator=check_folders, show_default=lambda _: "none")] = None
    """Folder that keeps how models may run, and compiled models: the next start is faster and decides the same."""
    share: Literal["auto", "on", "off"] = "auto"
    """Divide the processor among models by weight and priority; auto: if the file gives a model either."""
    prune: Literal["auto", "off"] = "auto"
    """Compile models without outputs that clients do not ask for, where that saves a tenth (auto), or never (off)."""
    batch_delay: Pause = _DEFAULTS.batch_delay
    """Seconds that a batch waits to fill."""
    coalesce: Literal["auto", "off"] = "auto"
    """Let single requests wait up to 2 ms for others under load, to share runs."""
    busy_poll: Pause = 200e-6
    """Seconds to poll for messages before sleeping; 0: none."""
    streams: Count = 4096
    """Concurrent streams and unary calls; more are refused."""
    window: Count = _DEFAULTS.window
    """Tickets in flight per stream."""
    max_queue: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=1 << 20))] = _DEFAULTS.max_queue
    """Tickets that may wait for the slots of a model; 0: as many as windows admit."""
    max_queue_seconds: Pause = _DEFAULTS.max_queue_seconds
    """Seconds that a ticket may wait for a slot, as estimated when it comes; 0: without limit."""
    max_priority: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=MAX_PRIORITY))] = (
        _DEFAULTS.max_priority
    )
    """Highest priority that counts (0 to 9); what clients ask above it is lowered."""
    max_message_bytes: MessageSize = _DEFAULTS.max_message_bytes
    """Largest message accepted."""
    memory: Annotated[
        int | None, Parameter(converter=read_size, validator=check_memory, show_default=lambda _: "half")
    ] = None
    """Memory for messages, outputs and the like, beside models; half of what the process may have unless given."""
    queue_bytes: Size = _DEFAULTS.queue_bytes
    """Input bytes waiting or running, in total."""
    unsent_bytes: Size = _DEFAULTS.unsent_bytes
    """Output bytes waiting to be sent, per stream."""
    keep_bytes: Size = _DEFAULTS.keep_bytes
    """Kept outputs per stream."""
    keep_bytes_total: Size = _DEFAULTS.keep_bytes_total
    """Kept outputs in total."""
    keep_seconds: Seconds = _DEFAULTS.keep_seconds
    """Lifetime of a kept output, or a sequence, after its last use; inf: until it is released or ended."""
    sequences: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1 << 20))] = _DEFAULTS.sequences
    """Sequences that may be live."""
    sequence_bytes: Size = _DEFAULTS.sequence_bytes
    """What the variables of models hold for live sequences, in total."""
    drain_delay: Pause = 0.0
    """Seconds to serve on after SIGTERM, while health checks report not ready."""
    grace: Seconds = _DEFAULTS.grace
    """Seconds after that for tickets in flight to finish."""
    stream_seconds: Annotated[float, Parameter(validator=validators.Number(gte=0))] = _DEFAULTS.stream_seconds
    """Age at which streams are asked to move to another connection, or up to half of it sooner; 0: never."""
    model_control: Annotated[bool, Parameter(negative="")] = False
    """Let clients load and unload models by name, and change the log level."""
    compression: Literal["none", "gzip", "deflate"] = "none"
    """Compression of responses; requests may use any."""
    shared_memory: Annotated[bool, Parameter(negative="")] = False
    """Let clients pass tensors in POSIX shared memory."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level to log, on standard error."""
    log_format: Literal["text", "json"] = "text"
    """Lines of the log: for people, or a JSON object each."""
    log_requests: Ratio = 0.0
    """Part of the requests that succeed to log, from 0 to 1; those that fail are logged in any case."""
    trace_endpoint: Annotated[str | None, Parameter(validator=check_endpoint, show_default=lambda _: "none")] = None
    """Collector of OpenTelemetry to send traces to (OTLP over gRPC), such as http://127.0.0.1:4317."""
    trace_sample: Ratio = 0.01
    """Part of the requests to trace, from 0 to 1, of those whose clients have not decided it."""

    def limits(self) -> Limits:
        """The options that the core enforces. `share` counts if it is on."""
        values = {field.name: getattr(self, field.name) for field in fields(Limits) if field.name != "processors"}
        memory = self.memory or available_bytes() // 2
        processors = available_processors() if self.share == "on" else 0
        return Limits(**{**values, "memory": memory, "coalesce": self.coalesce == "auto", "processors": processors})

    def compilation(self) -> Compilation:
        """How models are compiled that have no options of their own."""
        properties = dict(pair.split("=", 1) for pair in self.property)
        processors = available_processors()
        return Compilation(
            self.device,
            self.run,
            self.hint,
            properties,
            self.slots,
            self.batch,
            state=self.state,
            extensions=self.extension,
            prune=self.prune,
            threads=processors if processors < scheduled_processors() else 0,
        )
