"""When calls are ended for memory, and how the ceiling of allocations follows what is in use."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from headrace.server import memory_guard
from headrace.server.memory_guard import MAX_IN_VAIN, MAX_SECONDS, MIN_SECONDS, RESERVE_BYTES, MemoryGuard

GIB = 1 << 30
MIB = 1 << 20
MODELS = GIB // 4
EVERYTHING = 64 * GIB


class Process:
    """One with this much memory, whose event loop ends 2 calls when it is asked to, each of them with `held` bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, budget: int = GIB, available: int = EVERYTHING) -> None:
        self.mapped, self.free, self.held = MODELS, 0, 64 * MIB
        self.ceiling: int | None = None
        self.asked = 0
        self._asked: list[Future[tuple[int, str]]] = []
        monkeypatch.setattr(memory_guard, "mapped_bytes", lambda: self.mapped)
        monkeypatch.setattr(memory_guard, "free_bytes", lambda: self.free)
        monkeypatch.setattr(memory_guard, "set_ceiling", self._set_ceiling)
        self.guard = MemoryGuard(budget, available)
        self.guard._models, self.guard._active = MODELS, True

    def look(self) -> float:
        return self.guard.look(self._begin)

    def end(self, count: int = 2) -> None:
        """The loop ends calls, and their memory is free."""
        self.free += count * self.held
        self._asked.pop().set_result((count, "ipv4:10.0.0.1"))

    def _begin(self) -> Future[tuple[int, str]]:
        self.asked += 1
        self._asked.append(Future())
        return self._asked[-1]

    def _set_ceiling(self, nbytes: int | None) -> None:
        self.ceiling = nbytes


def test_calls_are_ended_until_what_messages_take_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch)
    process.mapped = process.guard.threshold + 200 * MIB
    process.look()
    assert process.asked == 1
    assert process.look() == MIN_SECONDS
    assert process.asked == 1, "the loop has not answered yet"
    process.end()
    process.look()
    process.look()
    assert process.asked == 2, "128 of 200 MiB are free"
    process.end()
    process.look()
    process.look()
    assert process.asked == 2


def test_what_was_freed_is_not_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch)
    process.mapped, process.free = process.guard.threshold + GIB, GIB
    process.look()
    assert process.asked == 0


def test_it_looks_before_the_memory_could_be_full(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch)
    assert process.look() == MAX_SECONDS
    process.mapped = process.guard.threshold - 400 * MIB
    assert 0.05 < process.look() < 0.1
    process.mapped = process.guard.threshold - 1
    assert process.look() == MIN_SECONDS


def test_calls_are_not_ended_again_and_again_for_what_they_do_not_hold(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A large model may compute with more than was thought."""
    process = Process(monkeypatch)
    process.held = 0
    process.mapped = process.guard.threshold + GIB
    for _ in range(10):
        process.look()
        if process._asked:
            process.end()
    assert process.asked == MAX_IN_VAIN
    assert "not because of messages: 1024 MiB" in caplog.text
    process.mapped += MIB
    process.look()
    assert process.asked == MAX_IN_VAIN + 1, "what comes on top counts"


def test_the_ceiling_is_the_budget_and_half_as_much_above_what_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch, budget=4 * GIB)
    for used in (MODELS, 3 * GIB, 2 * GIB):
        process.mapped = used
        process.look()
        assert process.ceiling == used + 6 * GIB


def test_the_ceiling_is_below_what_the_machine_has_but_leaves_some_for_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch, budget=4 * GIB, available=6 * GIB)
    process.look()
    assert process.ceiling == int(0.9 * 6 * GIB)
    process.mapped = 6 * GIB
    process.look()
    assert process.ceiling == 6 * GIB + RESERVE_BYTES


def test_nothing_is_bounded_while_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch)
    before = process.guard.threshold
    process.look()
    assert process.ceiling is not None
    with process.guard.loading():
        process.mapped += 10 * GIB
        assert process.look() == MAX_SECONDS
        assert process.ceiling is None
        with process.guard.loading():
            process.mapped += GIB
        process.look()
        assert process.ceiling is None, "the first one is still loading"
    assert process.ceiling is not None, "at once, not at the next look"
    process.look()
    assert process.asked == 0
    assert process.guard.threshold >= before + 11 * GIB


def test_models_that_are_loaded_in_place_of_others_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch)
    before = process.guard.threshold
    for _ in range(20):
        with process.guard.loading():
            process.mapped += GIB
        process.mapped -= GIB  # the old one is unloaded
    assert process.guard.threshold <= before + GIB


def test_it_ends_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch)
    process.look()
    process.guard.stop()
    process.look()
    assert process.ceiling is None


def test_there_is_room_for_models_beside_half_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch, budget=GIB, available=2 * GIB)
    room = int(memory_guard.MAX_SHARE * 2 * GIB) - RESERVE_BYTES - MODELS - GIB // 2
    assert process.guard.has_room(room)
    assert not process.guard.has_room(room + 1)
    process.mapped = process.guard.threshold
    assert not process.guard.has_room(0), "memory is short"
