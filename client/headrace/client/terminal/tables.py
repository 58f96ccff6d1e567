"""The tables that the `headrace` command prints for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from headrace.client.protocol.models import Model, Port
from headrace.client.protocol.status import ServerStatus
from headrace.client.terminal.outputs import first_values, summary, value_text
from headrace.wire.dtypes import datatype_of

UNBROKEN = 100_000
"""Columns of what is not read on a terminal: no line is broken for it."""


def print_table(table: Table, file: TextIO | None = None, width: int | None = None) -> None:
    """As wide as the terminal; without colours, and with every row on a line, when there is none."""
    file = file or sys.stdout
    width = width or (None if file.isatty() else UNBROKEN)
    console = Console(file=file, width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip(), file=file)


def models_table(models: Iterable[Model]) -> Table:
    """A row for each port."""
    table = _table("MODEL", "VERSION", ">SLOTS", "PORT", "NAME", "TENSOR")
    for model in models:
        first = [printable(model.name), model.version, str(model.slots)]
        for way, ports in (("in", model.inputs), ("out", model.outputs)):
            for port in ports:
                table.add_row(*first, way, printable(port.name), tensor_text(port))
                first = ["", "", ""]
    return table


def status_table(status: ServerStatus) -> Table:
    """A row for each model. RESTORING is there when it happens, which is seldom, and 80 columns are few."""
    restoring = any(model.slots_restoring for model in status.models)
    slots = ["FREE", "RUNNING", "STOPPING", *(["RESTORING"] if restoring else [])]
    table = _table("MODEL", "VERSION", *(f">{name}" for name in slots), ">QUEUED", ">DONE", ">FAILED")
    for model in status.models:
        counts = [model.slots_free, model.slots_running, model.slots_stopping]
        counts += [model.slots_restoring] if restoring else []
        counts += [model.tickets_queued, model.inferences, model.failures]
        table.add_row(printable(model.name), model.version, *map(str, counts))
    return table


def status_lines(status: ServerStatus, target: str) -> list[str]:
    return [
        f"headrace {printable(status.version)} at {target}, {'draining' if status.draining else 'serving'}",
        f"streams {status.streams} · tickets in flight {status.tickets_in_flight} · "
        f"queued inputs {size_text(status.queued_bytes)} · kept outputs {size_text(status.kept_bytes)}",
    ]


def outputs_table(outputs: Mapping[str, npt.NDArray[Any]]) -> Table:
    table = _table("OUTPUT", "DATATYPE", "SHAPE", ">MIN", ">MEAN", ">MAX", "FIRST VALUES")
    for name, array in outputs.items():
        found = summary(array)
        numbers = map(value_text, (found.least, found.mean, found.most)) if found else ("-",) * 3
        shape = f"[{','.join(map(str, array.shape))}]"
        table.add_row(printable(name), datatype_of(array.dtype).name, shape, *numbers, first_values(array))
    return table


def tensor_text(port: Port) -> str:
    """`FP32[?,16]`, `INT64[any rank]`."""
    return str(port).removeprefix(f"{port.name} ")


def size_text(size: float) -> str:
    """`1.5 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"


def printable(name: str) -> str:
    """A name from outside as a terminal may show it."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name)


def _table(*headings: str) -> Table:
    """Columns with these headings; those that begin with > are aligned to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in headings:
        justify = "right" if heading.startswith(">") else "left"
        table.add_column(heading.lstrip(">"), justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table
