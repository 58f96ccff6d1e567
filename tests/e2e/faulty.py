"""A server with planted failures: `python -m tests.e2e.faulty WHERE MODEL...`.

WHERE is `handlers`, where every handler always fails, or `streams`, where the code around them fails for requests that
are called `broken` or have tag 666.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from headrace.server.cli import main
from headrace.server.core.core import Core
from headrace.server.services.health import Health
from headrace.server.services.native.control import ControlRpcs
from headrace.server.services.native.encoder import Encoder
from headrace.server.services.native.stream import StreamRpc
from headrace.server.services.native.unary import UnaryRpcs
from headrace.server.services.oip.inference import InferRpc
from headrace.server.services.oip.metadata import MetadataRpcs
from headrace.server.services.oip.repository import RepositoryRpcs
from headrace.server.services.oip.requests import RequestReader
from headrace.server.services.oip.responses import ResponseWriter
from headrace.server.services.oip.shared_memory import SharedMemoryRpcs
from headrace.server.services.oip.statistics import StatisticsRpcs
from headrace.server.services.oip.streaming import StreamInferRpc

HANDLERS = (
    UnaryRpcs,
    ControlRpcs,
    StreamRpc,
    InferRpc,
    StreamInferRpc,
    MetadataRpcs,
    RepositoryRpcs,
    SharedMemoryRpcs,
    StatisticsRpcs,
    Health,
)
BROKEN_TAG = 666


class PlantedError(Exception):
    def __init__(self) -> None:
        super().__init__("secret details of /some/path")


def break_handlers() -> None:
    async def fail(*_: object) -> None:
        raise PlantedError

    def fail_at_once(*_: object) -> None:
        raise PlantedError

    for rpcs in HANDLERS:
        for name, _ in inspect.getmembers(rpcs, inspect.iscoroutinefunction):
            setattr(rpcs, name, fail)
    for answering in (UnaryRpcs, InferRpc):
        setattr(answering, "infer", fail_at_once)  # noqa: B010 - mypy knows what belongs there


def break_streams() -> None:
    """Break the reader in the middle of a frame, the writer, and the path of Open Inference Protocol requests."""
    break_when(Core, "cancel", lambda _core, _stream, tag, _now: tag == BROKEN_TAG)
    break_when(
        Encoder, "encode", lambda _encoder, events: any(getattr(each, "tag", 0) == BROKEN_TAG for each in events)
    )
    break_when(RequestReader, "read", lambda _reader, parts, _client: parts.id == b"broken request")
    break_when(ResponseWriter, "write", lambda _writer, _done, id, _outputs: id == b"broken response")
    break_when(Core, "infer", lambda _core, stream, *_, priority, **__: priority == 3 and stream.unary)


def break_when(owner: type, name: str, broken: Callable[..., bool]) -> None:
    works = getattr(owner, name)

    def maybe(*arguments: Any, **named: Any) -> Any:
        if broken(*arguments, **named):
            raise PlantedError
        return works(*arguments, **named)

    setattr(owner, name, maybe)


if __name__ == "__main__":
    {"handlers": break_handlers, "streams": break_streams}[sys.argv.pop(1)]()
    main()
