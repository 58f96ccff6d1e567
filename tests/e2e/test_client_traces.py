"""The client passes on the trace that its program is in: by the metadata of calls, and with each ticket of a stream."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from opentelemetry import propagate
from opentelemetry.sdk.trace import TracerProvider

import headrace.client as hc
import headrace.client.blocking as blocking
from tests import models
from tests.e2e.collector import Span, collecting, roots_of
from tests.e2e.serving import Serve

ONE = np.ones(1, np.float32)
assert propagate  # a program that uses the library has imported this


def parents(spans: list[Span]) -> list[tuple[str, str]]:
    return sorted((root.trace, root.parent) for root in roots_of(spans))


async def test_tickets_and_calls_belong_to_the_span_in_which_they_are_made(serve: Serve, tmp_path: Path) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("tests")
    expected: list[tuple[str, str]] = []
    with collecting() as (collector, port):
        served = serve(str(models.scale(tmp_path)), f"--trace-endpoint=127.0.0.1:{port}", "--trace-sample=0")
        async with hc.connect(served.address) as server, server.stream() as stream:
            await stream.submit("scale", {"x": ONE})  # without a span: not traced
            for number in range(8):
                with tracer.start_as_current_span(f"mine {number}") as span:
                    context = span.get_span_context()
                    expected.append((f"{context.trace_id:032x}", f"{context.span_id:016x}"))
                    if number % 2:
                        ticket = await stream.submit("scale", {"x": ONE})
                        assert (await ticket)["y"].tolist() == [3]
                    else:
                        assert (await server.infer("scale", {"x": ONE}))["y"].tolist() == [3]
        spans = collector.wait(8)
    assert parents(spans) == sorted(expected)


def test_the_blocking_client_passes_it_on_to_its_thread(serve: Serve, tmp_path: Path) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("tests")
    with collecting() as (collector, port):
        served = serve(str(models.scale(tmp_path)), f"--trace-endpoint=127.0.0.1:{port}", "--trace-sample=0")
        with blocking.connect(served.address) as server, server.stream() as stream:
            with tracer.start_as_current_span("mine") as span:
                context = span.get_span_context()
                assert stream.submit("scale", {"x": ONE}).result(60)["y"].tolist() == [3]
                assert server.infer("scale", {"x": ONE})["y"].tolist() == [3]
            assert stream.submit("scale", {"x": ONE}).result(60)["y"].tolist() == [3]
        spans = collector.wait(2)
    assert parents(spans) == [(f"{context.trace_id:032x}", f"{context.span_id:016x}")] * 2


def test_the_client_does_not_import_what_its_program_does_not_use() -> None:
    program = "import sys, headrace.client; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == "[]\n"
