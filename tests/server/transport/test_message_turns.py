"""Large messages take turns: one in each turn of the event loop, and each connection as often as another."""

from __future__ import annotations

import asyncio

from headrace.server.transport.message_turns import MessageTurns


class Call:
    """A call that handles large messages, one after the other, and notes when."""

    def __init__(self, turns: MessageTurns, peer: str, handled: list[str]) -> None:
        self._turns, self._peer, self._handled = turns, peer, handled

    async def handle(self, messages: int) -> None:
        for _ in range(messages):
            if (turn := self._turns.take(self, self._peer)) is not None:
                await turn
            self._handled.append(self._peer)
            await asyncio.sleep(0)  # it reads the next


async def passes(handled: list[str], stop: asyncio.Event) -> list[int]:
    """How many messages were handled in each pass of the event loop."""
    counts: list[int] = []
    while not stop.is_set():
        before = len(handled)
        await asyncio.sleep(0)
        counts.append(len(handled) - before)
    return counts


async def test_one_message_is_handled_in_a_turn_of_the_loop_however_many_wait() -> None:
    turns, handled, stop = MessageTurns(), list[str](), asyncio.Event()
    counting = asyncio.create_task(passes(handled, stop))
    calls = [Call(turns, f"peer-{number}", handled) for number in range(100)]
    await asyncio.gather(*(call.handle(3) for call in calls))
    stop.set()
    assert len(handled) == 300
    assert max(await counting) == 1


async def test_connections_take_turns_however_many_calls_they_have() -> None:
    turns, handled = MessageTurns(), list[str]()
    calls = [Call(turns, "many", handled) for _ in range(50)] + [Call(turns, "one", handled)]
    await asyncio.gather(*(call.handle(20) for call in calls))
    assert handled[:48].count("one") >= 12


async def test_a_lone_call_never_waits() -> None:
    turns = MessageTurns()
    call = object()
    for _ in range(1000):
        assert turns.take(call, "alone") is None


async def test_a_call_that_ends_while_it_waits_is_passed_over() -> None:
    turns, handled = MessageTurns(), list[str]()
    tasks = [asyncio.create_task(Call(turns, f"peer-{number}", handled).handle(1)) for number in range(5)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.wait(tasks)
    assert handled == ["peer-0", "peer-3", "peer-4"]
    await asyncio.sleep(0)
    assert turns.take(object(), "next") is None
