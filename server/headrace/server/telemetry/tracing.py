"""Traces: the spans of a request, made when it has ended from the times that were noted meanwhile.

    infer MODEL   from the arrival of the request until its answer is written
      waiting     for kept outputs that other tickets have to compute first; left out if it waits for none
      queue       for a free slot
      run
      send        until the answer is written, with what it waits for before: its turn, and a client that reads slowly

It is imported only if requests are to be traced, and needs the extra `tracing`.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from headrace.server.core.events import Done, Failed
from headrace.server.telemetry.callers import Caller, caller_fields
from headrace.server.telemetry.formats import MAX_FIELD_CHARACTERS, cut
from headrace.server.version import VERSION
from headrace.wire.errors import Code

MAX_REQUESTS = 500
"""Requests that are traced in a second: clients decide what is traced, and the spans of one take about 0.1 ms."""
MAX_QUEUED_SPANS = 8192
"""Spans that wait for the collector. Further ones are dropped."""
EXPORT_SECONDS = 1.0
"""How often spans are delivered."""
CLOSE_SECONDS = 0.5
"""How long the end of the server waits for the last ones to be delivered."""
REMIND_SECONDS = 60.0
_NANOSECONDS = 1_000_000_000

logger = logging.getLogger(__name__)

_Attributes: TypeAlias = dict[str, str | int | bool]


class Tracing:
    """`services.observing.Tracer`. Times are those of `time.monotonic`.

    Of requests that do not say whether they are traced, `ratio` are.
    """

    def __init__(self, endpoint: str, ratio: float) -> None:
        # The library says for each batch, and for each attempt, that there is no collector.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._ratio = ratio
        exporter = _Exporter(endpoint)
        resource = Resource.create(
            {"service.name": os.environ.get("OTEL_SERVICE_NAME") or "headrace", "service.version": VERSION}
        )
        self._provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, MAX_QUEUED_SPANS, schedule_delay_millis=EXPORT_SECONDS * 1000)
        )
        self._tracer = self._provider.get_tracer("headrace.server", VERSION)
        self._propagator = TraceContextTextMapPropagator()
        self._second = self._count = 0
        self._reminded = -REMIND_SECONDS

    def begin(self, parent: str, state: str) -> object | None:
        context = Context()
        if parent:
            if len(parent) == 55 and parent[-1] in "02468ace":
                return None  # its client has decided that it is not traced, as most do: no need to look at the rest
            context = self._propagator.extract({"traceparent": parent, "tracestate": state}, context)
            span = trace.get_current_span(context).get_span_context()
            if span.is_valid:
                return context if span.trace_flags.sampled and self._admits() else None
        return context if random.random() < self._ratio and self._admits() else None

    def end(
        self,
        context: object,
        call: Caller,
        rpc: str,
        event: Done | Failed | None,
        arrived: float,
        sent: float,
        request: bytes = b"",
    ) -> None:
        assert isinstance(context, Context)
        offset = time.time_ns() - int(time.monotonic() * _NANOSECONDS)

        def wall(seconds: float) -> int:
            return offset + int(seconds * _NANOSECONDS)

        name, attributes = _describe(call, rpc, event, request)
        span = self._tracer.start_span(name, context, SpanKind.SERVER, attributes, start_time=wall(arrived))
        if isinstance(event, Failed):
            span.set_status(Status(StatusCode.ERROR, cut(event.error.message)))
        elif event is None:
            span.set_status(Status(StatusCode.ERROR, "the client has gone"))
        if event is not None:
            inside = trace.set_span_in_context(span, context)
            began = arrived
            run: _Attributes = {}
            if isinstance(event, Done):
                run = {"headrace.batch": event.shared, "headrace.direct": event.direct}
            for part, seconds, given in (
                ("waiting", event.waiting, {}),
                ("queue", event.queued, {}),
                ("run", event.running, run),
            ):
                if seconds or given:
                    child = self._tracer.start_span(part, inside, attributes=given, start_time=wall(began))
                    began += seconds
                    child.end(wall(began))
            self._tracer.start_span("send", inside, start_time=wall(began)).end(wall(sent))
        span.end(wall(sent))

    def close(self) -> None:
        """Deliver what is left, for up to CLOSE_SECONDS."""
        # On a thread that may be left behind: the library cannot be told to give up in time.
        closing = threading.Thread(target=self._provider.shutdown, name="delivering traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _admits(self) -> bool:
        now = time.monotonic()
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        self._count += 1
        if self._count <= MAX_REQUESTS:
            return True
        if now - self._reminded >= REMIND_SECONDS:
            self._reminded = now
            logger.warning("more than %d requests a second are to be traced; further ones are not", MAX_REQUESTS)
        return False

    def __repr__(self) -> str:
        return f"<Tracing {self._ratio:g}, {self._count} requests in this second>"


class _Exporter(SpanExporter):
    """Delivers spans to a collector, and says once if it cannot."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._exporter = OTLPSpanExporter(endpoint, insecure=not endpoint.startswith("https://"))
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                logger.warning("traces are dropped: the collector at %s does not take them", self._endpoint)
            self._lost += len(spans)
        elif self._lost:
            logger.info("the collector at %s takes traces again; %d spans were dropped", self._endpoint, self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _describe(
    call: Caller, rpc: str, event: Done | Failed | None, request: bytes
) -> tuple[str, Mapping[str, str | int]]:
    """The name and the attributes of the span of a request."""
    service, _, method = rpc.partition("/")
    attributes: dict[str, str | int] = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    who = caller_fields(call)
    attributes["client.address"] = who["peer"]
    if "identity" in who:
        attributes["enduser.id"] = who["identity"]
    if request:
        attributes["headrace.request_id"] = cut(request.decode(errors="replace"), MAX_FIELD_CHARACTERS)
    name, code = "infer", Code.CANCELLED
    if event is not None:
        if "Stream" in method:
            attributes["headrace.tag"] = str(event.tag)  # a number in OTLP has 63 bits
        if isinstance(event, Done):
            model, version, code = event.plan.spec.name, event.plan.spec.version, Code.OK
        else:
            model, version, code = event.model, event.version, event.error.code
        if model:
            attributes["headrace.model"] = model
        if version:  # clients choose the names of models that do not exist
            attributes["headrace.version"] = version
            name = f"infer {model}"
    attributes["rpc.grpc.status_code"] = int(code)
    return name, attributes
