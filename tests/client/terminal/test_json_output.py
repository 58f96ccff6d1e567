"""The JSON that the command prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from headrace.client.protocol.models import ModelState
from headrace.client.terminal.json_output import infer_document, models_document, status_document
from tests.client.terminal.described import MODEL, STATUS


def test_models_are_documents() -> None:
    (document,) = models_document([MODEL], [])["models"]
    assert document["inputs"] == [
        {
            "name": "image",
            "datatype": "UINT8",
            "shape": [{"min": 0, "max": None}, 3, {"min": 1, "max": 640}],
            "names": ["image", "i"],
        },
        {"name": "words", "datatype": "BYTES", "shape": None, "names": ["words"]},
    ]
    assert document["outputs"][0]["shape"] == [{"min": 2, "max": None}, 4]
    assert {key: document[key] for key in document if key not in ("inputs", "outputs")} == {
        "name": "segmenter",
        "version": "2",
        "slots": 4,
        "has_variables": True,
        "direct": False,
        "direct_reason": "it has strings",
        "batch": 8,
        "batch_reason": "up to 8 rows",
        "sequences": False,
        "weight": 3,
        "priority": 1,
        "streams": 2,
        "threads": 1,
        "weights_bytes": 4194304,
        "memory_bytes": 6815744,
    }


def test_states_are_documents() -> None:
    state = ModelState("m", "2", "READY", "could not be loaded again")
    assert models_document([], [state])["states"] == [
        {"name": "m", "version": "2", "state": "READY", "reason": "could not be loaded again"}
    ]


def test_the_status_is_a_document() -> None:
    assert status_document(STATUS) == {
        "version": "0.1.0",
        "draining": False,
        "streams": 3,
        "tickets_in_flight": 12,
        "kept_bytes": 1536,
        "queued_bytes": 0,
        "models": [
            {
                "name": "segmenter",
                "version": "2",
                "slots_free": 1,
                "slots_running": 2,
                "slots_stopping": 1,
                "tickets_queued": 7,
                "inferences": 9000,
                "failures": 3,
                "executions": 1125,
                "slots_restoring": 1,
                "restorations": 5,
                "variants": ({"outputs": ("mask", "score"), "executions": 800, "memory_bytes": 5 << 20},),
                "refused": 0,
                "overdue": 0,
                "durations": {"bounds": (), "counts": ()},
            }
        ],
        "memory": {"name": "memory", "used_bytes": 3 << 20, "limit_bytes": 1 << 30},
        "accounts": [
            {"name": "queue", "used_bytes": 0, "limit_bytes": 1 << 30},
            {"name": "unsent", "used_bytes": 3 << 20, "limit_bytes": 1 << 29},
        ],
        "resident_bytes": 300 << 20,
        "busiest_streams": [{"client": "team-a", "tickets_in_flight": 12, "kept_bytes": 1536, "unsent_bytes": 3 << 20}],
        "workers": [
            {
                "number": 1,
                "problem": "",
                "streams": 3,
                "tickets_in_flight": 12,
                "inferences": 9000,
                "resident_bytes": 300 << 20,
            },
            {
                "number": 2,
                "problem": "has not answered for 5 s",
                "streams": 0,
                "tickets_in_flight": 0,
                "inferences": 0,
                "resident_bytes": 0,
            },
        ],
        "loop_lag": 0.0,
    }


@pytest.mark.parametrize(
    ("array", "data"),
    [
        (np.array([[1, 2]], np.float32), [[1.0, 2.0]]),
        (np.array([1.5], ml_dtypes.bfloat16), [1.5]),
        (np.array([0.5], np.float16), [0.5]),
        (np.array([np.nan, np.inf, -np.inf, 1], np.float32), ["NaN", "Infinity", "-Infinity", 1.0]),
        (np.array([True]), [True]),
        (np.array([2**64 - 1], np.uint64), [2**64 - 1]),
        (np.array([["é".encode(), b"\xff"]], np.object_), [["é", "\\xff"]]),
        (np.array(3, np.int32), 3),
        (np.zeros((2, 0), np.float32), [[], []]),
    ],
)
def test_outputs_are_documents_with_their_data(array: npt.NDArray[Any], data: object) -> None:
    document = json.loads(json.dumps(infer_document(MODEL, {"y": array}, {}), allow_nan=False))
    (output,) = document["outputs"]
    assert (output["name"], output["shape"], output["data"]) == ("y", list(array.shape), data)
    assert set(output) == {"name", "datatype", "shape", "min", "mean", "max", "data"}


def test_documents_of_saved_outputs_hold_no_data() -> None:
    document = infer_document(MODEL, {"y": np.zeros(2)}, {"y": Path("out/y.npy")})
    assert document["outputs"][0]["file"] == "out/y.npy"
    assert "data" not in document["outputs"][0]
