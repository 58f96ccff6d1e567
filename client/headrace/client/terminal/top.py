"""A server as it is at the moment, on a terminal, until Ctrl-C."""

from __future__ import annotations

import asyncio
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from headrace.client.aio.server import Server
from headrace.client.protocol.status import ServerStatus, StreamStatus
from headrace.client.terminal.printing import printable, size_text
from headrace.client.terminal.rates import ModelRates, Order, model_rates, ordered
from headrace.client.terminal.tables import headed_table, milliseconds, status_lines
from headrace.wire.errors import HeadraceError

MAX_STREAMS = 10
"""Rows, if the terminal is as high."""


class Top:
    """The tables, made anew from each status. Nothing is drawn while nothing changes, which keeps ssh quiet."""

    def __init__(self, target: str, order: Order, part: str) -> None:
        self._target = target
        self._order: Order = order
        self._part = part
        self._before: ServerStatus | None = None
        self._looked = 0.0

    def drawn(self, status: ServerStatus, now: float, height: int) -> RenderableType:
        """The tables of a status that is as old as `now`, in seconds."""
        before, seconds = self._before, max(now - self._looked, 1e-3)
        self._before, self._looked = status, now
        if before is None:
            return _page(status, self._target, ["measuring ..."])
        rates = ordered(model_rates(before, status, seconds), self._order)
        shown = [each for each in rates if self._part in each.now.name]
        rows = max(1, height - len(status_lines(status, self._target)) - 4)
        parts = [_models_table(shown[:rows])]
        rows -= len(shown) + 2
        streams = [each for each in status.busiest_streams if each.tickets_in_flight or each.kept_bytes]
        if streams and rows > 1:
            parts += ["", _streams_table(streams[: min(rows, MAX_STREAMS)])]
        return _page(status, self._target, parts)

    def lost(self, error: HeadraceError) -> RenderableType:
        """What is shown while the server does not answer."""
        self._before = None
        return Text(f"{self._target}: {error.code.name}: {printable(error.message)}")


async def watch(server: Server, top: Top, seconds: float, console: Console) -> None:
    """Look every so many seconds, and draw. Does not return; a server that does not answer is asked again."""
    with Live(console=console, screen=True, auto_refresh=False, transient=True) as live:
        shown = ""
        while True:
            start = time.monotonic()
            try:
                page = top.drawn(await server.status(), time.monotonic(), console.height)
            except HeadraceError as error:
                page = top.lost(error)
            with console.capture() as capture:
                console.print(page)
            if capture.get() != shown:
                shown = capture.get()
                live.update(page, refresh=True)
            await asyncio.sleep(max(0.0, start + seconds - time.monotonic()))


def _page(status: ServerStatus, target: str, parts: list[RenderableType]) -> RenderableType:
    return Group(*map(Text, status_lines(status, target)), "", *parts)


def _models_table(rates: list[ModelRates]) -> RenderableType:
    table = headed_table(
        "MODEL", "VERSION", ">DONE/s", ">FAILED/s", ">REFUSED/s", ">P50", ">P99", ">BATCH", ">QUEUED", ">SLOTS"
    )
    for each in rates:
        model = each.now
        slots = model.slots_free + model.slots_running + model.slots_stopping + model.slots_restoring
        table.add_row(
            printable(model.name),
            model.version,
            *(f"{rate:,.0f}" if rate >= 10 or not rate else f"{rate:.1f}" for rate in _figures(each)),
            "-" if each.p50 is None else milliseconds(each.p50),
            "-" if each.p99 is None else milliseconds(each.p99),
            "-" if each.batch is None else f"{each.batch:.1f}",
            str(model.tickets_queued),
            f"{slots - model.slots_free}/{slots}",
        )
    return table


def _figures(rates: ModelRates) -> tuple[float, float, float]:
    return rates.rate, rates.failures, rates.refusals


def _streams_table(streams: list[StreamStatus]) -> RenderableType:
    table = headed_table("STREAM OF", ">IN FLIGHT", ">KEPT", ">UNSENT")
    for each in streams:
        kept, unsent = size_text(each.kept_bytes), size_text(each.unsent_bytes)
        table.add_row(printable(each.client), str(each.tickets_in_flight), kept, unsent)
    return table
