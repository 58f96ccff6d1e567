"""The numbers that operators and load tools read go up by exactly what was sent."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tests.triton.messages import given, pair
from tests.triton.streams import CallbackStream

ONE = np.ones(1, np.float32)
DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


class Difference:
    """What the statistics of a model have grown by since this was made."""

    def __init__(self, client: InferenceServerClient, model: str) -> None:
        self._client, self._model = client, model
        self._before = self._read()

    def read(self) -> dict[str, int]:
        after = self._read()
        return {key: after[key] - self._before.get(key, 0) for key in after}

    def _read(self) -> dict[str, int]:
        (stats,) = self._client.get_inference_statistics(self._model).model_stats
        assert (stats.name, stats.version) == (self._model, "1")
        found = {"inferences": stats.inference_count, "runs": stats.execution_count}
        for name in DURATIONS:
            duration = getattr(stats.inference_stats, name)
            found[name], found[f"{name}_ns"] = duration.count, duration.ns
        for batch in stats.batch_stats:
            found[f"batch_{batch.batch_size}"] = batch.compute_infer.count
        return found


def batches(grown: dict[str, int]) -> dict[int, int]:
    """How many runs had how many rows."""
    return {int(key[6:]): count for key, count in grown.items() if key.startswith("batch_") and count}


def test_successes_are_counted(client: InferenceServerClient) -> None:
    difference = Difference(client, "static_add_multiply")
    for _ in range(7):
        client.infer("static_add_multiply", pair())
    grown = difference.read()
    assert (grown["inferences"], grown["runs"]) == (7, 7)
    assert [grown[name] for name in DURATIONS] == [7, 0, 7, 7, 7, 7]
    assert batches(grown) == {1: 7}


def test_failures_are_counted_apart(client: InferenceServerClient) -> None:
    difference = Difference(client, "failing")
    for count in (16, 15, 16, 15, 15):
        if count == 16:
            client.infer("failing", [given("x", np.ones(count, np.float32))])
        else:
            with pytest.raises(InferenceServerException):
                client.infer("failing", [given("x", np.ones(count, np.float32))])
    grown = difference.read()
    assert (grown["inferences"], grown["success"], grown["fail"]) == (2, 2, 3)
    assert grown["fail_ns"] > 0


def test_times_are_plausible(client: InferenceServerClient) -> None:
    difference = Difference(client, "slow")
    began = time.monotonic_ns()
    client.infer("slow", [given("x", ONE)])
    elapsed = time.monotonic_ns() - began
    grown = difference.read()
    assert 1_000_000 < grown["compute_infer_ns"] <= grown["success_ns"] <= elapsed
    parts = ("queue_ns", "compute_input_ns", "compute_infer_ns", "compute_output_ns")
    assert sum(grown[part] for part in parts) <= elapsed
    assert all(grown[part] >= 0 for part in parts)


def test_the_last_inference_is_dated(client: InferenceServerClient) -> None:
    before = int(time.time() * 1000)
    client.infer("scalar", [given("x", np.array(1, np.float32))])
    (stats,) = client.get_inference_statistics("scalar", "1").model_stats
    assert before - 1000 <= stats.last_inference <= time.time() * 1000 + 1000


def test_inferences_that_share_a_run_are_counted(client: InferenceServerClient) -> None:
    difference = Difference(client, "add_multiply")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: client.infer("add_multiply", pair()), range(200)))
    grown = difference.read()
    assert (grown["inferences"], grown["success"], grown["fail"]) == (200, 200, 0)
    assert 1 <= grown["runs"] <= 200
    assert sum(batches(grown).values()) == grown["runs"]
    assert sum(rows * count for rows, count in batches(grown).items()) == 200


def test_inferences_of_streams_are_counted(client: InferenceServerClient) -> None:
    difference = Difference(client, "scale")
    with CallbackStream(client) as stream:
        for _ in range(100):
            stream.send("scale", [given("x", ONE)])
        for _ in range(100):
            stream.result()
    grown = difference.read()
    assert (grown["inferences"], grown["success"], grown["queue"]) == (100, 100, 100)


def test_statistics_of_all_models_are_listed(client: InferenceServerClient) -> None:
    all_stats: dict[str, Any] = {stats.name: stats for stats in client.get_inference_statistics().model_stats}
    assert set(all_stats) == {each.name for each in client.get_model_repository_index().models}
