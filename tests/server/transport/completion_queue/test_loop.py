"""What asyncio does goes on working on a loop that waits for the completion queue."""

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

from headrace.server.dispatcher.event_loop import PollingLoop
from headrace.server.transport.completion_queue import selector as selector_module
from headrace.server.transport.completion_queue.selector import MAX_EVENTS, CompletionQueueSelector
from headrace.server.transport.completion_queue.server import CompletionQueueTransport
from tests.disturbances import retried_if_disturbed
from tests.server.transport.completion_queue.loops import transport_and_loop

IN_TIME = 5.0
"""Seconds in which everything here is done, however busy the machine is."""


@pytest.fixture
def transport() -> Iterator[CompletionQueueTransport]:
    with transport_and_loop() as (transport, _):
        yield transport


@pytest.fixture(params=[0.0, 200e-6], ids=["sleeping", "polling"])
def loop(request: pytest.FixtureRequest) -> Iterator[PollingLoop]:
    with transport_and_loop(request.param) as (_, loop):
        yield loop


def test_timers_go_off_in_order_and_never_early(loop: PollingLoop) -> None:
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


@retried_if_disturbed
def test_a_timer_is_late_by_little(loop: PollingLoop) -> None:
    """By 1.5 ms at most, where nothing else runs: the best of many."""
    late: list[float] = []

    async def wait() -> None:
        for _ in range(20):
            began = time.monotonic()
            await asyncio.sleep(0.005)
            late.append(time.monotonic() - began - 0.005)

    loop.run_until_complete(wait())
    assert 0 <= min(late) < 0.0015


def test_a_callback_from_another_thread_wakes_the_loop(loop: PollingLoop) -> None:
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
    assert loop.run_until_complete(asyncio.wait_for(wait(), IN_TIME)) < selector_module.MAX_WAIT


def test_no_callback_of_many_threads_is_lost(loop: PollingLoop) -> None:
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


def test_a_wake_up_that_there_is_no_memory_for_is_not_the_last(
    transport: CompletionQueueTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """grpcio drops the event, and raises MemoryError."""
    selector, lost = transport.selector, list[object]()
    poll = selector.queue.poll

    def lossy(deadline: float) -> object:
        event = poll(deadline)
        if not lost and event.tag is not None:
            lost.append(event.tag)
            raise MemoryError
        return event

    monkeypatch.setattr(selector, "_poll", lossy)
    for _ in range(2):
        selector.wake()
        began = time.monotonic()
        assert selector.select(IN_TIME) == []
        assert time.monotonic() - began < IN_TIME
    assert lost


def test_work_of_other_threads_comes_back(loop: PollingLoop) -> None:
    async def work() -> list[int]:
        return await asyncio.gather(*(asyncio.to_thread(int, number) for number in range(50)))

    assert loop.run_until_complete(asyncio.wait_for(work(), IN_TIME)) == [*range(50)]


def test_signals_wake_the_loop(loop: PollingLoop) -> None:
    async def wait() -> None:
        for _ in range(3):
            received = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, received.set)
            loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(received.wait(), IN_TIME)

    loop.run_until_complete(wait())
    loop.remove_signal_handler(signal.SIGUSR1)


def test_the_pipes_of_a_subprocess_are_read(loop: PollingLoop) -> None:
    async def run() -> tuple[bytes, int | None]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print(input())", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(process.communicate(b"said\n"), 30)
        return output, process.returncode

    assert loop.run_until_complete(run()) == (b"said\n", 0)


def test_descriptors_are_read_while_they_come_and_go(loop: PollingLoop) -> None:
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


def test_a_descriptor_that_stays_ready_does_not_keep_timers_from_going_off(loop: PollingLoop) -> None:
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


def test_no_poll_waits_so_long_that_a_clock_that_is_set_back_could_prolong_it(
    transport: CompletionQueueTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """grpcio compares a deadline with the time of day again after 0.2 s, and not before."""
    asked: list[float] = []
    selector = transport.selector
    poll = selector.queue.poll

    def recorded(deadline: float) -> object:
        asked.append(deadline - time.time())
        return poll(deadline)

    monkeypatch.setattr(selector, "_poll", recorded)
    began = time.monotonic()
    selector.select(0.5)
    assert time.monotonic() - began >= 0.498
    assert len(asked) >= 3
    assert max(asked) < 0.2


def test_a_flood_of_events_does_not_keep_the_loop_from_its_other_work(transport: CompletionQueueTransport) -> None:
    """Each turn handles so many, and asyncio then does what is due."""
    selector = transport.selector
    waker = selector._waker
    handled = 0

    def again(_event: object) -> None:
        nonlocal handled
        handled += 1
        waker._call.start_server_batch((), again)

    for _ in range(10):
        waker._call.start_server_batch((), again)
    assert selector.select(10.0) == []
    assert 0 < handled <= MAX_EVENTS


def test_a_callback_that_fails_is_logged_and_the_next_one_is_called(
    transport: CompletionQueueTransport, caplog: pytest.LogCaptureFixture
) -> None:
    call, called = transport.selector._waker._call, list[object]()

    def fail(_event: object) -> None:
        raise ValueError("of a callback")

    call.start_server_batch((), fail)
    call.start_server_batch((), called.append)
    while not called:
        transport.selector.select(1.0)
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        ("of a callback",)
    ]


def test_a_loop_is_closed_while_other_threads_call_it() -> None:
    for _ in range(10):
        with transport_and_loop() as (_, loop):
            stop, calls = threading.Event(), [0]

            def call(stop: threading.Event = stop, loop: PollingLoop = loop, calls: list[int] = calls) -> None:
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


def test_the_end_of_a_loop_leaves_no_thread_and_no_descriptor() -> None:
    with transport_and_loop():
        pass
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with transport_and_loop() as (_, loop):
            loop.run_until_complete(asyncio.sleep(0))
            assert isinstance(loop, PollingLoop)
    assert not [thread for thread in threading.enumerate() if thread.name == "descriptors"]
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_an_idle_loop_tells_its_watcher(transport: CompletionQueueTransport) -> None:
    class Watcher:
        heard = turns = 0

        def turn_begins(self) -> None:
            self.turns += 1

        def waits_for_clients(self) -> bool:
            return True

        def idle_after(self) -> float:
            return 0.01

        def idle(self) -> None:
            self.heard += 1

    selector: CompletionQueueSelector = transport.selector
    selector.watcher = watcher = Watcher()
    began = time.monotonic()
    assert selector.select(None) == []
    assert time.monotonic() - began < IN_TIME
    assert (watcher.heard, watcher.turns) == (1, 1)
    selector.wake()
    selector.select(None)
    assert (watcher.heard, watcher.turns) == (1, 2)
