"""A short version of `make test-trust`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import headrace.client as hc
from tests.e2e.serving import Served
from tests.trust.failing_models import FAILING_MODELS
from tests.trust.requests import mix
from tests.trust.server import CONFIGURATIONS, arguments

GOOD, BAD = 300, 30
STATIC = ("scatter_nd", "scatter", "scatter_elements", "reverse", "sum_along", "gather_elements_static")


@pytest.fixture(scope="module", params=CONFIGURATIONS, ids=lambda chosen: f"{chosen[0]}, threads {chosen[1]}")
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("trust")
    with Served(arguments(folder, *request.param), folder / "server.log") as served:
        yield served


@pytest.mark.parametrize("name", FAILING_MODELS)
async def test_no_answer_is_another_clients(served: Served, name: str) -> None:
    answers = await mix(served.address, name, FAILING_MODELS[name], GOOD, BAD)
    assert answers.wrong == []
    assert (answers.good, answers.failed) == (GOOD, BAD)
    async with hc.connect(served.address) as server:
        async with asyncio.timeout(5):
            while True:
                status = await server.status()
                (model,) = [model for model in status.models if model.name == name]
                if not model.slots_restoring:
                    break
        assert (model.inferences, model.failures, model.tickets_queued) == (GOOD, BAD, 0)
        # After each failed run of a dynamic model its slot was restored: the status shows it.
        assert model.restorations == (0 if name in STATIC else BAD)
