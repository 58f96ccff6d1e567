"""The tables that the `headrace` command prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy.typing as npt
from rich.table import Table

from headrace.client.protocol.models import Model, ModelState, Port
from headrace.client.protocol.status import ServerStatus
from headrace.client.terminal.array_summary import first_values, summary, value_text
from headrace.client.terminal.printing import printable, size_text
from headrace.wire.dtypes import datatype_of

ON_TIME_SECONDS = 0.005
"""Up to which an event loop counts as on time."""


def models_table(models: Iterable[Model]) -> Table:
    """A row for each port. Weights and priorities are shown only if models differ in them."""
    models = tuple(models)
    differ = len({(model.weight, model.priority) for model in models}) > 1
    shares = (">WEIGHT", ">PRIORITY") if differ else ()
    table = headed_table("MODEL", "VERSION", ">SLOTS", "RUNS", ">BATCH", *shares, ">MEMORY", "PORT", "NAME", "TENSOR")
    for model in models:
        runs = "direct" if model.direct else "async"
        first = [printable(model.name), model.version, str(model.slots), runs, str(model.batch)]
        first += [str(model.weight), str(model.priority)] if differ else []
        first.append(size_text(model.memory_bytes) if model.memory_bytes else "-")
        for way, ports in (("in", model.inputs), ("out", model.outputs)):
            for port in ports:
                table.add_row(*first, way, printable(port.name), tensor_text(port))
                first = [""] * len(first)
    return table


def states_table(states: Iterable[ModelState]) -> Table:
    """A row for each version of which there is something to say."""
    table = headed_table("MODEL", "VERSION", "STATE", "REASON")
    for state in states:
        table.add_row(printable(state.name), printable(state.version) or "-", state.state, printable(state.reason))
    return table


def state_lines(models: Iterable[Model]) -> list[str]:
    """What becomes of the variables of models that have any, below the table."""
    kept = "its variables go from request to request of a sequence of the Open Inference Protocol"
    reset = "its variables are reset before each inference; headrace-server keeps state with --state"
    stateful = (model for model in models if model.has_variables)
    return [f"{printable(model.name)} {model.version}: {kept if model.sequences else reset}" for model in stateful]


def status_table(status: ServerStatus) -> Table:
    """A row for each model. The columns RESTORING and REFUSED are shown only if they say something, to save width."""
    restoring = any(model.slots_restoring for model in status.models)
    refused = any(model.refused for model in status.models)
    slots = ["FREE", "RUNNING", "STOPPING", *(["RESTORING"] if restoring else [])]
    ends = ["QUEUED", "DONE", "FAILED", *(["REFUSED"] if refused else [])]
    table = headed_table("MODEL", "VERSION", *(f">{name}" for name in (*slots, *ends)))
    for model in status.models:
        counts = [model.slots_free, model.slots_running, model.slots_stopping]
        counts += [model.slots_restoring] if restoring else []
        counts += [model.tickets_queued, model.inferences, model.failures]
        counts += [model.refused] if refused else []
        table.add_row(printable(model.name), model.version, *map(str, counts))
    return table


def variant_lines(status: ServerStatus) -> list[str]:
    """What variants of models compute only some outputs, below the table."""
    return [
        f"{printable(model.name)} {model.version}: {variant.executions} runs computed only "
        f"{', '.join(map(printable, variant.outputs))} · variant of {size_text(variant.memory_bytes)}"
        for model in status.models
        for variant in model.variants
    ]


def status_lines(status: ServerStatus, target: str) -> list[str]:
    """The load of the server as a whole, above the table."""
    does = "draining" if status.draining else "serving"
    return [
        f"headrace {printable(status.version)} at {target}, {does}{_lag(status)}",
        f"streams {status.streams} · tickets in flight {status.tickets_in_flight} · "
        f"queued inputs {size_text(status.queued_bytes)} · kept outputs {size_text(status.kept_bytes)}",
        *_memory_line(status),
        *_workers_line(status),
    ]


def _lag(status: ServerStatus) -> str:
    """How late the event loop was, if that is worth a word: it is always a little."""
    return f" · event loop late by {milliseconds(status.loop_lag)}" if status.loop_lag >= ON_TIME_SECONDS else ""


def _memory_line(status: ServerStatus) -> list[str]:
    """What requests take, and what for; nothing when the server does not say."""
    if not status.memory.limit_bytes:
        return []
    uses = [f"{each.name} {size_text(each.used_bytes)}" for each in status.accounts if each.used_bytes]
    used, limit = size_text(status.memory.used_bytes), size_text(status.memory.limit_bytes)
    requests = f"memory for requests {used} of {limit}" + (f" ({', '.join(uses)})" if uses else "")
    return [f"{requests} · of the process {size_text(status.resident_bytes)}"]


def _workers_line(status: ServerStatus) -> list[str]:
    """The streams and tickets of each worker, of a server that has several."""
    found = []
    for each in status.workers:
        load = f"streams {each.streams}, tickets {each.tickets_in_flight}, {size_text(each.resident_bytes)}"
        found.append(f"{each.number} {printable(each.problem)}" if each.problem else f"{each.number}: {load}")
    return [f"workers {' · '.join(found)}"] if found else []


def outputs_table(outputs: Mapping[str, npt.NDArray[Any]]) -> Table:
    """A row for each output."""
    table = headed_table("OUTPUT", "DATATYPE", "SHAPE", ">MIN", ">MEAN", ">MAX", "FIRST VALUES")
    for name, array in outputs.items():
        found = summary(array)
        numbers = map(value_text, (found.min, found.mean, found.max)) if found else ("-",) * 3
        shape = f"[{','.join(map(str, array.shape))}]"
        table.add_row(printable(name), datatype_of(array.dtype).name, shape, *numbers, first_values(array))
    return table


def milliseconds(seconds: float) -> str:
    """With two decimals below ten."""
    number = seconds * 1e3
    return f"{number:.2f} ms" if number < 10 else f"{number:,.0f} ms"


def tensor_text(port: Port) -> str:
    """Datatype and shape, for example `FP32[?,16]` or `INT64[any rank]`."""
    return str(port).removeprefix(f"{port.name} ")


def headed_table(*headings: str) -> Table:
    """A table with these headings. The columns of headings that begin with > are aligned to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in headings:
        justify = "right" if heading.startswith(">") else "left"
        table.add_column(heading.lstrip(">"), justify=justify, overflow="fold")  # type: ignore[arg-type]  # inferred as str
    return table
