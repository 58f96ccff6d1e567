"""`headrace load` and `headrace report`, as a shell says them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, validators

from headrace.client.load.attended import attend
from headrace.client.load.calling import Request
from headrace.client.load.options import phases_of, streams_of, window_of
from headrace.client.load.orders import Job
from headrace.client.load.record import read
from headrace.client.load.report.conditions import broken, parse_condition
from headrace.client.load.report.document import document
from headrace.client.load.report.page import html
from headrace.client.load.report.summary import summarise
from headrace.client.load.report.text import print_report
from headrace.client.load.run import Arrivals, Mode, Protocol, Run
from headrace.client.load.self_test.measure import costs
from headrace.client.load.self_test.table import print_costs
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.limits import MAX_PRIORITY

BROKEN, INTERRUPTED = 3, 130
MAX_MESSAGE_BYTES = (1 << 31) - 1

Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]
Processes = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=256))]
Seconds = Annotated[float, Parameter(validator=validators.Number(gt=0, lte=1e6))]
Names = tuple[str, ...]


async def load(
    target: Annotated[str | None, Parameter(name="TARGET", help="The server, for example 127.0.0.1:8001.")] = None,
    /,
    *,
    model: Annotated[str | None, Parameter(help="Name of the model.")] = None,
    model_version: Annotated[str, Parameter(help="Version of the model; the newest without it.")] = "",
    rate: Annotated[str | None, Parameter(help="Open loop: 200/s, or 50..500/s for one that grows.")] = None,
    arrivals: Annotated[Arrivals, Parameter(help="Of an open loop.", show_default=True)] = "uniform",
    concurrency: Annotated[Count | None, Parameter(help="Closed loop: so many in flight; 1 without any load.")] = None,
    sweep: Annotated[str | None, Parameter(help="Closed loops one after the other, as 1,2,4,8.")] = None,
    duration: Annotated[Seconds | None, Parameter(help="Seconds of each load; 10 without it.")] = None,
    count: Annotated[Count | None, Parameter(help="Requests of each load, instead of a duration.")] = None,
    warmup: Annotated[
        float,
        Parameter(validator=validators.Number(gte=0, lte=1e6), help="Seconds before it counts.", show_default=True),
    ] = 1.0,
    protocol: Annotated[Protocol, Parameter(help="oip: Open Inference Protocol.", show_default=True)] = "headrace",
    mode: Annotated[Mode, Parameter(help="How requests are sent.", show_default=True)] = "stream",
    streams: Annotated[
        Count | None, Parameter(help="Streams or connections, in all; one for each process without it.")
    ] = None,
    window: Annotated[Count | None, Parameter(help="Requests in flight on each of them, at most.")] = None,
    processes: Annotated[Processes, Parameter(help="Of the client.", show_default=True)] = 1,
    inputs: Annotated[
        Names,
        Parameter(name="--input", help="NAME=random, zeros, .npy file, folder of them, or JSON; random without it."),
    ] = (),
    shapes: Annotated[
        Names, Parameter(name="--shape", help="NAME:SIZES, as x:1,3,224,224, for random and zeros.")
    ] = (),
    jsonl: Annotated[
        Path | None, Parameter(name="--input-lines", help="JSON Lines file of {NAME: value} objects.")
    ] = None,
    outputs: Annotated[
        Names | None, Parameter(name=["--outputs", "--output"], help="To be sent back: all without it, none for ''.")
    ] = None,
    keep: Annotated[Names, Parameter(help="Outputs to be kept, and released.")] = (),
    timeout: Annotated[Seconds | None, Parameter(help="Seconds that a request may take.")] = None,
    priority: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=MAX_PRIORITY), help="From 0 to 9.")] = 0,
    seed: Annotated[int, Parameter(validator=validators.Number(gte=0), help="Of inputs and arrivals.")] = 0,
    record: Annotated[Path | None, Parameter(help="File for all that is measured, for headrace report.")] = None,
    fail_if: Annotated[Names, Parameter(help="As 'p99>20ms' or 'errors>0': then the exit code is 3. Repeatable.")] = (),
    as_json: Annotated[bool, Parameter(name="--json", help="Print the report as JSON.")] = False,
    self_test: Annotated[bool, Parameter(help="Measure what a request costs this client, and nothing else.")] = False,
) -> int:
    """Load a server, and report what it does.

    Latency counts from when a request was due, not from when it was sent.
    """
    if self_test:
        print_costs(costs())
        return 0
    if target is None or model is None:
        raise UsageError("a server and a model are needed, as in: headrace load 127.0.0.1:8001 --model resnet50")
    conditions = [parse_condition(text) for text in fail_if]
    phases = phases_of(rate, arrivals, concurrency, sweep, warmup, duration, count)
    streams = streams_of(streams, processes)
    sent = None if outputs is None else tuple(filter(None, outputs))
    job = Job(
        target=target,
        protocol=protocol,
        mode=mode,
        request=Request(model, model_version, sent, keep, timeout, priority),
        streams=streams,
        window=window_of(window, streams, phases),
        processes=processes,
        phases=phases,
        seed=seed,
        max_message_bytes=MAX_MESSAGE_BYTES,
        inputs=inputs,
        shapes=shapes,
        jsonl=jsonl,
    )
    run = await attend(job, record)
    if run is None:
        return INTERRUPTED
    _print([run], as_json=as_json)
    failures = broken(conditions, [summarise(outcome) for outcome in run.outcomes])
    for failure in failures:
        print("headrace:", failure, file=sys.stderr)
    if any(outcome.interrupted for outcome in run.outcomes):
        return INTERRUPTED
    return BROKEN if failures else 0


def report(
    records: Annotated[tuple[Path, ...], Parameter(name="RECORD", help="Files of headrace load --record.")],
    /,
    *,
    page: Annotated[
        Path | None, Parameter(name="--html", help="File for a page with plots, complete in itself.")
    ] = None,
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON, for programs.")] = False,
) -> int:
    """Read what `headrace load` has recorded: one run, or several beside the first."""
    if not records:
        raise UsageError("write at least one record, a file of headrace load --record")
    runs = [read(path) for path in records]
    if page is not None:
        _write(page, html(runs))
        print(f"written to {page}", file=sys.stderr)
    if page is None or as_json:
        _print(runs, as_json=as_json)
    return 0


def _print(runs: list[Run], *, as_json: bool) -> None:
    if as_json:
        print_json(document(runs))
    else:
        print_report(runs)


def print_json(found: dict[str, Any]) -> None:
    print(json.dumps(found, allow_nan=False, indent=2 if sys.stdout.isatty() else None))


def _write(page: Path, text: str) -> None:
    try:
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{page} cannot be written: {error.strerror or error}") from None
