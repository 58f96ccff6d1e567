"""What workers have together is divided, and what a stream has is not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.server.core.clients import ClientLimits
from headrace.server.engine.compilation import Compilation
from headrace.server.repository.named import NamedModel
from headrace.server.repository.scan import FoundModel, FoundVersion
from headrace.server.settings import Settings
from headrace.server.workers import shares
from headrace.server.workers.shares import Processors, share_of_model, share_of_settings


def test_totals_are_divided_and_limits_of_a_stream_are_not() -> None:
    whole = Settings(memory=1 << 30, streams=9, keep_bytes_total=1 << 20, max_queue=5, workers=2)
    part = share_of_settings(whole, 2)
    assert (part.memory, part.streams, part.keep_bytes_total, part.max_queue) == (1 << 29, 5, 1 << 19, 3)
    assert (part.window, part.keep_bytes, part.unsent_bytes) == (whole.window, whole.keep_bytes, whole.unsent_bytes)
    assert share_of_settings(replace(whole, max_queue=0), 2).max_queue == 0  # no bound stays none


def test_limits_of_identities_are_divided_and_none_stays_none() -> None:
    assert ClientLimits(100.0, 5, 3, 1000).share(2) == ClientLimits(50.0, 3, 2, 500)
    assert ClientLimits().share(4) == ClientLimits()
    assert ClientLimits(tickets=1).share(4) == ClientLimits(tickets=1)  # or it could not have any


def found(compilation: Compilation) -> FoundModel:
    return FoundModel("m", versions={1: FoundVersion(NamedModel("m", "1", Path("m.xml"), compilation), ())})


def test_a_model_gets_a_share_of_slots_queue_and_threads() -> None:
    shared = share_of_model(found(Compilation(slots=5, max_queue=4)), 2, 3)
    compilation = shared.versions[1].model.compilation
    assert (compilation.slots, compilation.max_queue, compilation.threads) == (3, 2, 3)
    untold = share_of_model(found(Compilation()), 2, 0).versions[1].model.compilation
    assert (untold.slots, untold.max_queue, untold.threads) == (0, None, 0)


def test_a_model_with_sequences_is_a_problem() -> None:
    shared = share_of_model(found(Compilation(state="sequence")), 2, 0)
    assert not shared.versions
    assert "sequences" in str(shared.problems[1])


@pytest.mark.parametrize(
    ("processors", "allowed", "workers", "expected"),
    [
        (8, 8, 2, Processors(4, (frozenset(range(4)), frozenset(range(4, 8))))),
        (8, 4, 2, Processors(2, (frozenset(range(4)), frozenset(range(4, 8))))),
        (2, 2, 2, Processors(1)),  # each runs where there is room
        (3, 3, 2, Processors(1)),
        (9, 9, 4, Processors(2)),
        (1, 1, 4, Processors(1)),
    ],
)
def test_workers_have_processors_of_their_own_where_these_can_be_divided(
    monkeypatch: pytest.MonkeyPatch, processors: int, allowed: int, workers: int, expected: Processors
) -> None:
    monkeypatch.setattr(shares, "scheduled_processors", lambda: processors)
    monkeypatch.setattr(shares, "available_processors", lambda: allowed)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
    divided = Processors.divided(workers)
    assert divided == expected
    assert divided.threads == (0 if divided.pinned and len(divided.pinned[0]) == divided.most else divided.most)
