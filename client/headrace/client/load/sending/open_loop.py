"""Sends requests when they are due, whether or not earlier ones have been answered, as far as the window allows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from headrace.client.load.callers.caller import Inputs
from headrace.client.load.sending.pacer import Pacer
from headrace.client.load.sending.picker import CallerPicker
from headrace.client.load.sending.tracker import RequestTracker, current_task


async def send_open_loop(
    due_times: Iterator[float],
    picker: CallerPicker,
    inputs: Iterator[Inputs],
    tracker: RequestTracker,
    pacer: Pacer,
    group: asyncio.TaskGroup,
) -> None:
    """Return when the last request has been sent.

    While the window is full, the next request waits, and so do all behind it; they keep their due times.
    """

    async def request(index: int, content: Inputs) -> None:
        answer = await picker.callers[index].call(content)
        tracker.finish(current_task(), answer)
        picker.release(index)

    for due in due_times:
        await pacer.wait_until(due)
        if picker.full and due >= 0:
            tracker.no_room += 1
        index = await picker.acquire()
        tracker.begin(group.create_task(request(index, next(inputs))), due, pacer.now())
