"""Sends requests when they are due, whatever has become of those before, as long as there is room for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from headrace.client.load.calling import Inputs
from headrace.client.load.ledger import Ledger, current_task
from headrace.client.load.pacer import Pacer
from headrace.client.load.places import Places


async def send_open(
    due_times: Iterator[float],
    places: Places,
    inputs: Iterator[Inputs],
    ledger: Ledger,
    pacer: Pacer,
    group: asyncio.TaskGroup,
) -> None:
    """Return when the last was sent. Without room a request waits, and all after it, and they keep their due times."""

    async def request(place: int, content: Inputs) -> None:
        answer = await places.callers[place].call(content)
        ledger.answer(current_task(), answer)
        places.give_back(place)

    for due in due_times:
        await pacer.until(due)
        if places.full and due >= 0:
            ledger.no_room += 1
        place = await places.take()
        ledger.send(group.create_task(request(place, next(inputs))), due, pacer.now())
