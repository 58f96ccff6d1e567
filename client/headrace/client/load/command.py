"""The commands `headrace load` and `headrace report`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO

from cyclopts import Parameter, validators

from headrace.client.load.callers.caller import Request
from headrace.client.load.planning.options import choose_phases, choose_search, choose_streams, choose_window
from headrace.client.load.planning.phases import Arrivals
from headrace.client.load.record.record_file import read_record
from headrace.client.load.record.run import Mode, Protocol, Run
from headrace.client.load.report.chunked import any_success
from headrace.client.load.report.conditions import (
    Condition,
    failed_conditions,
    missed_objectives,
    parse_condition,
    parse_objective,
)
from headrace.client.load.report.csv_table import write_csv
from headrace.client.load.report.document import document
from headrace.client.load.report.page.html_page import render_page
from headrace.client.load.report.rate_search import RateSearch, found_only, found_rate, parse_search, trial_samples
from headrace.client.load.report.summary import load_text, summarise
from headrace.client.load.report.text.text_report import print_report
from headrace.client.load.self_test.measure import measure_costs
from headrace.client.load.self_test.table import print_costs
from headrace.client.load.watching.watched_run import run_watched
from headrace.client.load.workers.messages import Job
from headrace.client.terminal.server_options import PLAIN, SecurityOptions, Target, connection_settings
from headrace.client.terminal.usage_error import UsageError

NOTHING_MEASURED, CONDITION_FAILED, INTERRUPTED = 1, 3, 130
MAX_MESSAGE_BYTES = (1 << 31) - 1

Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]
Processes = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=256))]
Seconds = Annotated[float, Parameter(validator=validators.Number(gt=0, lte=1e6))]
Names = tuple[str, ...]


async def load(
    target: Target | None = None,
    /,
    model: Annotated[str | None, Parameter(help="Name of the model.")] = None,
    *,
    model_version: Annotated[str, Parameter(help="Version of the model; by default the newest.")] = "",
    rate: Annotated[
        str | None, Parameter(help="Open loop: requests per second, as 200/s, or 50..500/s for a ramp.")
    ] = None,
    arrivals: Annotated[
        Arrivals, Parameter(help="How requests of an open loop are spaced.", show_default=True)
    ] = "uniform",
    concurrency: Annotated[
        Count | None, Parameter(help="Closed loop: requests in flight; 1 if no load is given.")
    ] = None,
    sweep: Annotated[str | None, Parameter(help="Closed loops one after the other, as in 1,2,4,8.")] = None,
    search: Annotated[
        str | None,
        Parameter(help="Find the highest rate at which this holds, as in 'p99<20ms'; begins with --rate or 100/s."),
    ] = None,
    duration: Annotated[Seconds | None, Parameter(help="Seconds to measure each load; by default 10.")] = None,
    count: Annotated[Count | None, Parameter(help="Requests to measure of each load, instead of a duration.")] = None,
    repeat: Annotated[
        int,
        Parameter(
            validator=validators.Number(gte=1, lte=100),
            help="Measure each load so many times, and report means with confidence intervals.",
        ),
    ] = 1,
    warmup: Annotated[
        float,
        Parameter(
            validator=validators.Number(gte=0, lte=1e6), help="Seconds of load before measuring.", show_default=True
        ),
    ] = 1.0,
    protocol: Annotated[
        Protocol, Parameter(help="oip is the Open Inference Protocol.", show_default=True)
    ] = "headrace",
    mode: Annotated[Mode, Parameter(help="Send requests on streams or as unary calls.", show_default=True)] = "stream",
    streams: Annotated[
        Count | None, Parameter(help="Streams (or connections) in all; by default one per process.")
    ] = None,
    window: Annotated[Count | None, Parameter(help="Maximum requests in flight per stream.")] = None,
    processes: Annotated[Processes, Parameter(help="Processes of this client.", show_default=True)] = 1,
    inputs: Annotated[
        Names,
        Parameter(
            name="--input", help="NAME=random, zeros, a .npy file, a folder of them, or JSON; by default random."
        ),
    ] = (),
    shapes: Annotated[
        Names, Parameter(name="--shape", help="NAME:SIZES, as in x:1,3,224,224, for random and zeros.")
    ] = (),
    jsonl: Annotated[
        Path | None, Parameter(name="--input-lines", help="JSON Lines file of {NAME: value} objects.")
    ] = None,
    outputs: Annotated[
        Names | None,
        Parameter(
            name=["--outputs", "--output"],
            consume_multiple=True,
            help="Outputs to return; by default all; '' for none.",
        ),
    ] = None,
    keep: Annotated[
        Names, Parameter(consume_multiple=True, help="Outputs to keep on the server and then release.")
    ] = (),
    timeout: Annotated[Seconds | None, Parameter(help="Seconds a request may take.")] = None,
    priority: Annotated[
        int, Parameter(validator=validators.Number(gte=0, lte=9), help="Priority of the requests, from 0 to 9.")
    ] = 0,
    security: SecurityOptions = PLAIN,
    seed: Annotated[int, Parameter(validator=validators.Number(gte=0), help="Seed of random inputs and arrivals.")] = 0,
    record: Annotated[Path | None, Parameter(help="Write all measurements to this file, for headrace report.")] = None,
    fail_if: Annotated[
        Names, Parameter(help="Exit with code 3 if this is true, as in 'p99>20ms' or 'errors>0'. Repeatable.")
    ] = (),
    as_json: Annotated[bool, Parameter(name="--json", help="Print the report as JSON.")] = False,
    self_test: Annotated[bool, Parameter(help="Only measure what a request costs this client.")] = False,
) -> int:
    """Put a server under load and report how it performs.

    Latency is measured from when a request was due, not from when it was sent.
    """
    if self_test:
        print_costs(measure_costs())
        return 0
    if target is None or model is None:
        raise UsageError("TARGET and MODEL are required, as in: headrace load 127.0.0.1:8001 resnet50")
    conditions = [parse_condition(text) for text in fail_if]
    condition = None if search is None else parse_search(search)
    if condition is None:
        plan = None
        phases = choose_phases(rate, arrivals, concurrency, sweep, warmup, duration, count, repeat)
    else:
        needed = trial_samples(condition)
        plan = choose_search(rate, arrivals, concurrency, sweep, warmup, duration, count, repeat, needed)
        phases = (plan.phase(plan.first),)
    streams = choose_streams(streams, processes)
    requested = None if outputs is None else tuple(filter(None, outputs))
    job = Job(
        connection=connection_settings(target, security, MAX_MESSAGE_BYTES),
        protocol=protocol,
        mode=mode,
        request=Request(model, model_version, requested, keep, timeout, priority),
        streams=streams,
        window=choose_window(window, streams, phases),
        processes=processes,
        phases=phases,
        seed=seed,
        inputs=inputs,
        shapes=shapes,
        jsonl=jsonl,
        repeat=repeat,
    )
    run = await run_watched(job, record, RateSearch(condition, plan) if condition and plan else None)
    if run is None:
        return INTERRUPTED
    _print_runs([run], as_json=as_json)
    failures, unmeasured = _failures(run, conditions), _unmeasured(run)
    for failure in (*failures, *unmeasured):
        print("headrace:", failure, file=sys.stderr)
    if any(outcome.interrupted for outcome in run.outcomes):
        return INTERRUPTED
    if unmeasured:
        return NOTHING_MEASURED
    return CONDITION_FAILED if failures else 0


def report(
    records: Annotated[tuple[Path, ...], Parameter(name="RECORD", help="Files written by headrace load --record.")],
    /,
    *,
    page: Annotated[
        Path | None, Parameter(name="--html", help="Write a self-contained page with plots to this file.")
    ] = None,
    table: Annotated[
        Path | None, Parameter(name="--csv", help="Write all requests to this file, a row for each.")
    ] = None,
    sla: Annotated[
        Names, Parameter(help="What should hold, as in 'p99<20ms' or 'errors<1%'. Repeatable. Exit code 3 if missed.")
    ] = (),
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON, for programs.")] = False,
) -> int:
    """Report on runs recorded by `headrace load`; several runs are compared with the first."""
    if not records:
        raise UsageError("name at least one record, a file written by headrace load --record")
    objectives = [parse_objective(text) for text in sla]
    runs = [read_record(path) for path in records]
    if page is not None:
        text = render_page(runs, objectives)
        _write(page, lambda file: file.write(text))
    if table is not None:
        _write(table, lambda file: write_csv(runs, file))
    if (page is None and table is None) or as_json:
        _print_runs(runs, as_json=as_json)
    missed = _missed(objectives, runs)
    for sentence in missed:
        print("headrace:", sentence, file=sys.stderr)
    return CONDITION_FAILED if missed else 0


def _missed(objectives: Sequence[Condition], runs: Sequence[Run]) -> list[str]:
    """A sentence for each objective that a phase does not fulfil; of a search, the best trial of the rate it found."""
    if not objectives:
        return []
    missed = missed_objectives(objectives, (summarise(each) for run in runs for each in found_only(run).outcomes))
    searches = map(found_rate, runs)
    return [*missed, *(found.sentence for found in searches if found is not None and found.best is None)]


def _failures(run: Run, conditions: Sequence[Condition]) -> list[str]:
    """A sentence for each condition that is true for a phase; of a search, for the best trial of the rate it found."""
    found = found_rate(run)
    if found is None:
        return failed_conditions(conditions, [summarise(outcome) for outcome in run.outcomes]) if conditions else []
    if found.best is None:
        return [found.sentence]
    return failed_conditions(conditions, [found.best.middle])


def _unmeasured(run: Run) -> list[str]:
    """A sentence for each phase without a success. The trials of a search may fail, unless all of them do."""
    loads = [load_text(each.phase.load) for each in run.outcomes if not any_success(each.samples)]
    if run.settings.search is None:
        return [f"no request succeeded ({load})" for load in loads]
    return ["no request succeeded at any rate"] if len(loads) == len(run.outcomes) else []


def _print_runs(runs: list[Run], *, as_json: bool) -> None:
    if as_json:
        print_json(document(runs))
    else:
        print_report(runs)


def print_json(report: dict[str, Any]) -> None:
    print(json.dumps(report, allow_nan=False, indent=2 if sys.stdout.isatty() else None))


def _write(path: Path, write: Callable[[TextIO], object]) -> None:
    try:
        with path.open("w", encoding="utf-8") as file:
            write(file)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None
    print(f"written to {path}", file=sys.stderr)
