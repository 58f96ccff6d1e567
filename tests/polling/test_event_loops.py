"""What asyncio does goes on working on the loops that wait for gRPC's completion queue: the server's, the client's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.polling.loops import LOOPS, NewLoop

IN_TIME = 5.0
"""Seconds in which everything here is done, however busy the machine is."""
LONGEST_POLL = 0.15
"""Seconds that a loop may wait before it looks again by itself, whatever it has missed."""


@pytest.fixture(params=[*LOOPS.values()], ids=[*LOOPS])
def new_loop(request: pytest.FixtureRequest) -> NewLoop:
    made: NewLoop = request.param
    return made


@pytest.fixture
def loop(new_loop: NewLoop) -> Iterator[asyncio.AbstractEventLoop]:
    with new_loop() as loop:
        yield loop


def test_timers_go_off_in_order_and_never_early(loop: asyncio.AbstractEventLoop) -> None:
    delays = [0.2, 0.0, 0.0005, 0.0031, 0.05, 0.0503, 0.16, 0.31]
    began, gone = time.monotonic(), list[tuple[float, float]]()

    def note(delay: float) -> None:
        gone.append((delay, time.monotonic() - began))

    async def wait() -> None:
        done = loop.create_future()
        for delay in delays:
            loop.call_later(delay, note, delay)
        loop.call_later(0.4, done.set_result, None)
        await asyncio.wait_for(done, IN_TIME)

    loop.run_until_complete(wait())
    assert [delay for delay, _ in gone] == sorted(delays)
    assert all(took >= delay for delay, took in gone)


def test_a_timer_is_late_by_little(loop: asyncio.AbstractEventLoop) -> None:
    """By 1.5 ms at most, where nothing else runs: the best of many."""
    late: list[float] = []

    async def wait() -> None:
        for _ in range(20):
            began = time.monotonic()
            await asyncio.sleep(0.005)
            late.append(time.monotonic() - began - 0.005)

    loop.run_until_complete(wait())
    assert 0 <= min(late) < 0.0015


def test_a_callback_from_another_thread_wakes_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    def call(called: asyncio.Future[float]) -> None:
        loop.call_soon_threadsafe(called.set_result, time.monotonic())

    async def wait() -> float:
        longest = 0.0
        for _ in range(20):
            called: asyncio.Future[float] = loop.create_future()
            threading.Timer(0.002, call, (called,)).start()
            longest = max(longest, time.monotonic() - await called)
        return longest

    # It would otherwise wait for as long as a poll may take.
    assert loop.run_until_complete(asyncio.wait_for(wait(), IN_TIME)) < LONGEST_POLL


def test_no_callback_of_many_threads_is_lost(loop: asyncio.AbstractEventLoop) -> None:
    threads, calls = 8, 2000
    called = 0

    async def count() -> None:
        done = loop.create_future()

        def call() -> None:
            nonlocal called
            called += 1
            if called == threads * calls:
                done.set_result(None)

        def work() -> None:
            for _ in range(calls):
                loop.call_soon_threadsafe(call)

        for _ in range(threads):
            threading.Thread(target=work).start()
        await asyncio.wait_for(done, 30)

    loop.run_until_complete(count())
    assert called == threads * calls


def test_work_of_other_threads_comes_back(loop: asyncio.AbstractEventLoop) -> None:
    async def work() -> list[int]:
        return await asyncio.gather(*(asyncio.to_thread(int, number) for number in range(50)))

    assert loop.run_until_complete(asyncio.wait_for(work(), IN_TIME)) == [*range(50)]


def test_signals_wake_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    async def wait() -> None:
        for _ in range(3):
            received = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, received.set)
            loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(received.wait(), IN_TIME)

    loop.run_until_complete(wait())
    loop.remove_signal_handler(signal.SIGUSR1)


def test_the_pipes_of_a_subprocess_are_read(loop: asyncio.AbstractEventLoop) -> None:
    async def run() -> tuple[bytes, int | None]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print(input())", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(process.communicate(b"said\n"), 30)
        return output, process.returncode

    assert loop.run_until_complete(run()) == (b"said\n", 0)


def test_descriptors_are_read_while_they_come_and_go(loop: asyncio.AbstractEventLoop) -> None:
    def hear(ours: socket.socket, future: asyncio.Future[bytes]) -> None:
        if not future.done():
            future.set_result(ours.recv(8))

    async def talk() -> None:
        for round_ in range(20):
            pairs = [socket.socketpair() for _ in range(5)]
            heard: list[asyncio.Future[bytes]] = [loop.create_future() for _ in pairs]
            for (ours, theirs), future in zip(pairs, heard, strict=True):
                ours.setblocking(False)
                loop.add_reader(ours, hear, ours, future)
                loop.call_later(0.001, theirs.send, b"%d" % round_)
            assert await asyncio.wait_for(asyncio.gather(*heard), IN_TIME) == [b"%d" % round_] * 5
            for ours, theirs in pairs:
                assert loop.remove_reader(ours)
                ours.close()
                theirs.close()

    loop.run_until_complete(talk())


def test_a_descriptor_that_stays_ready_does_not_keep_timers_from_going_off(loop: asyncio.AbstractEventLoop) -> None:
    ours, theirs = socket.socketpair()
    theirs.send(b"x")
    reads = 0

    def leave_it() -> None:
        nonlocal reads
        reads += 1

    loop.add_reader(ours, leave_it)
    loop.run_until_complete(asyncio.wait_for(asyncio.sleep(0.1), IN_TIME))
    assert reads > 10
    loop.remove_reader(ours)
    ours.close()
    theirs.close()


def test_a_loop_is_closed_while_other_threads_call_it(new_loop: NewLoop) -> None:
    for _ in range(10):
        with new_loop() as loop:
            stop, calls = threading.Event(), [0]

            def call(
                stop: threading.Event = stop, loop: asyncio.AbstractEventLoop = loop, calls: list[int] = calls
            ) -> None:
                while not stop.is_set():
                    try:
                        loop.call_soon_threadsafe(int)
                    except RuntimeError:  # it has been closed
                        return
                    calls[0] += 1

            thread = threading.Thread(target=call)
            thread.start()
            loop.run_until_complete(asyncio.sleep(0.01))
        stop.set()
        thread.join(IN_TIME)
        assert not thread.is_alive()
        assert calls[0]


def test_the_end_of_a_loop_leaves_no_thread_and_no_descriptor(new_loop: NewLoop) -> None:
    with new_loop():
        pass
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with new_loop() as loop:
            loop.run_until_complete(asyncio.sleep(0))
    assert not [thread for thread in threading.enumerate() if thread.name in ("descriptors", "headrace alarm")]
    assert len(os.listdir("/proc/self/fd")) <= before + 8  # gRPC closes some of its own later
