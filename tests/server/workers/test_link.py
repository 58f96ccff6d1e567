"""Questions and answers between two processes, here between two threads."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from headrace.server.workers.link import ClosedError, Link
from headrace.wire.errors import ResourceExhausted


class Ends(NamedTuple):
    asking: Link
    answering: Link
    closed: threading.Event


async def answer(kind: str, content: Any) -> Any:
    if kind == "refuse":
        raise ResourceExhausted("full", retry_after=2.0)
    if kind == "break":
        raise LookupError(lambda: None)  # cannot be pickled
    if kind == "wait":
        await asyncio.Event().wait()
    return kind, content


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    one, other = socket.socketpair()
    closed = threading.Event()
    asking, answering = Link(one, closed.set), Link(other, lambda: None)
    answering.answer_with(answer)
    for each in (asking, answering):
        each.start()
    yield Ends(asking, answering, closed)
    asking.close()
    await asyncio.to_thread(closed.wait, 60)


async def test_large_answers_come_to_those_who_asked(ends: Ends) -> None:
    contents = [bytes([n]) * (n * 100_000) for n in range(30)]
    answers = await asyncio.gather(*(ends.asking.asked("echo", each, 60) for each in contents))
    assert answers == [("echo", each) for each in contents]


async def test_threads_may_wait_for_answers(ends: Ends) -> None:
    assert await asyncio.to_thread(ends.asking.ask, "echo", 7) == ("echo", 7)


async def test_an_error_is_raised_where_it_was_asked(ends: Ends) -> None:
    with pytest.raises(ResourceExhausted) as found:
        await ends.asking.asked("refuse", None, 60)
    assert (found.value.message, found.value.retry_after, found.value.retryable) == ("full", 2.0, True)
    with pytest.raises(RuntimeError, match="LookupError"):
        await ends.asking.asked("break", None, 60)


async def test_who_does_not_answer_is_not_waited_for(ends: Ends) -> None:
    with pytest.raises(TimeoutError):
        await ends.asking.asked("wait", None, 0.05)
    assert repr(ends.asking) == "<Link: 0 questions wait>"


async def test_the_end_of_the_other_side_ends_all_questions(ends: Ends) -> None:
    waiting = asyncio.create_task(ends.asking.asked("wait", None, 60))
    assert await ends.asking.asked("echo", None, 60)  # the question before is there, too
    ends.answering.close()
    with pytest.raises(ClosedError):
        await waiting
    assert await asyncio.to_thread(ends.closed.wait, 60)
    with pytest.raises(ClosedError):
        await ends.asking.asked("echo", None, 60)


async def test_nothing_is_answered_before_somebody_answers() -> None:
    one, other = socket.socketpair()
    closed = threading.Event()
    early, late = Link(one, closed.set), Link(other, lambda: None)
    for each in (early, late):
        each.start()
    with pytest.raises(RuntimeError, match="nothing is answered yet"):
        await early.asked("echo", None, 60)
    early.close()
    await asyncio.to_thread(closed.wait, 60)
