"""A collector of OpenTelemetry, as far as it takes spans over gRPC."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpcs


@dataclass
class Span:
    """Ids are in hexadecimal digits, times in seconds, `parent` is empty at the root."""

    name: str
    trace: str
    id: str
    parent: str
    start: float
    end: float
    attributes: dict[str, Any]
    status: int
    message: str
    kind: int
    service: str

    def contains(self, other: Span) -> bool:
        return self.start <= other.start <= other.end <= self.end


class Collector(rpcs.TraceServiceServicer):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._changed = threading.Condition()

    def Export(self, request: pb.ExportTraceServiceRequest, context: object) -> pb.ExportTraceServiceResponse:
        spans = [
            Span(
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.start_time_unix_nano * 1e-9,
                span.end_time_unix_nano * 1e-9,
                {each.key: getattr(each.value, each.value.WhichOneof("value") or "") for each in span.attributes},
                span.status.code,
                span.status.message,
                span.kind,
                next(each.value.string_value for each in group.resource.attributes if each.key == "service.name"),
            )
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._changed:
            self._spans += spans
            self._changed.notify_all()
        return pb.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        with self._changed:
            return [*self._spans]

    def wait(self, roots: int) -> list[Span]:
        """The spans, once they include so many of whole requests: a request's own span comes last."""
        deadline = time.monotonic() + 60
        with self._changed:
            while len(roots_of(self._spans)) < roots:
                assert self._changed.wait(deadline - time.monotonic()), self._spans
            return [*self._spans]


def roots_of(spans: list[Span]) -> list[Span]:
    """Those of requests."""
    return [span for span in spans if span.name.startswith("infer")]


@contextmanager
def collecting(port: int = 0) -> Iterator[tuple[Collector, int]]:
    """A collector and its port."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    rpcs.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield collector, port
    finally:
        server.stop(None).wait()
