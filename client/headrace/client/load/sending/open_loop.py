"""Sends requests when they are due, whether or not earlier ones have been answered, as far as the window allows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from headrace.client.load.callers.caller import Inputs
from headrace.client.load.callers.departure import Departure
from headrace.client.load.record.samples import NO_WAITS, Waits
from headrace.client.load.sending.lag import Lag
from headrace.client.load.sending.pacer import Pacer
from headrace.client.load.sending.picker import CallerPicker
from headrace.client.load.sending.room_wait import RoomWait
from headrace.client.load.sending.tracker import Overdue, RequestTracker, current_task


async def send_open_loop(
    due_times: Iterator[float],
    picker: CallerPicker,
    inputs: Iterator[Inputs],
    tracker: RequestTracker,
    pacer: Pacer,
    group: asyncio.TaskGroup,
) -> None:
    """Return when the last request has been sent. If cancelled before, tell the tracker what is overdue.

    While the window is full, the next request waits, and so do all behind it; they keep their due times. Requests of
    the warm-up that were not sent in it are left out.
    """

    async def request(index: int, content: Inputs, departure: Departure) -> None:
        answer = await picker.callers[index].call(content, departure)
        tracker.finish(current_task(), answer)
        picker.release(index)

    lag = Lag()
    for due in due_times:
        if due < 0 <= pacer.now():
            # The backlog of a warm-up that overloads the server must not take the place of what is measured.
            continue
        room: RoomWait | None = None
        try:
            await pacer.wait_until(due)
            if picker.full:
                room = RoomWait(pacer, picker.callers)
            index = await picker.acquire()
        except asyncio.CancelledError:
            now = pacer.now()
            tracker.overdue = Overdue(due, now, lag.begin(due, now, *_waits(room, pacer)))
            raise
        departure = Departure(lag.begin(due, pacer.now(), *_waits(room, pacer)))
        pacer.mark()
        tracker.begin(group.create_task(request(index, next(inputs), departure)), due, departure)


def _waits(room: RoomWait | None, pacer: Pacer) -> tuple[Waits, float]:
    """What a request waited for, and the seconds of a processor used in the rest of the time since it was due."""
    if room is None or (waits := room.waits()) is None:
        return NO_WAITS, pacer.used_since_mark()
    return waits, room.used_before
