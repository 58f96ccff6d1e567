"""The JSON that the `headrace` command prints. Later versions only add keys.

models  {"models": [{"name", "version", "slots", "has_variables",
                     "inputs": [port], "outputs": [port], "direct", "direct_reason", "batch", "batch_reason",
                     "sequences", "weight", "priority", "streams", "threads", "weights_bytes", "memory_bytes"}],
         "states": [{"name", "version", "state", "reason"}]}
        port: {"name", "datatype", "shape", "names"}
        shape: null for any rank, or a list of dimensions, each a size or {"min", "max"};
        a max of null means no limit
infer   {"model", "version", "outputs": [{"name", "datatype", "shape", "min", "mean", "max", "data" or "file"}]}
        data: nested lists; with --save, "file" instead. BYTES are text. Numbers that JSON cannot
        represent are "NaN", "Infinity" and "-Infinity"
status  {"version", "draining", "streams", "tickets_in_flight", "kept_bytes", "queued_bytes",
         "models": [{"name", "version", "slots_free", "slots_running", "slots_stopping", "tickets_queued",
                     "inferences", "failures", "executions", "slots_restoring", "restorations",
                     "variants": [{"outputs", "executions", "memory_bytes"}], "refused", "overdue",
                     "durations": {"bounds", "counts"}}],
         "memory": account, "accounts": [account], "resident_bytes",
         "busiest_streams": [{"client", "tickets_in_flight", "kept_bytes", "unsent_bytes"}],
         "workers": [{"number", "problem", "streams", "tickets_in_flight", "inferences", "resident_bytes"}]}
        account: {"name", "used_bytes", "limit_bytes"}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.client.protocol.models import Dimension, Model, ModelState, Port
from headrace.client.protocol.status import ServerStatus
from headrace.client.terminal.array_summary import summary
from headrace.wire.dtypes import datatype_of

Array = npt.NDArray[Any]
Document = dict[str, Any]
_LISTS = ("models", "accounts", "busiest_streams", "workers")
"""Of a status."""


def models_document(models: Iterable[Model], states: Iterable[ModelState]) -> Document:
    return {"models": [_model(model) for model in models], "states": [*map(asdict, states)]}


def status_document(status: ServerStatus) -> Document:
    lists = {name: [*map(asdict, getattr(status, name))] for name in _LISTS}
    return asdict(status) | lists


def infer_document(model: Model, outputs: Mapping[str, Array], files: Mapping[str, Path]) -> Document:
    return {
        "model": model.name,
        "version": model.version,
        "outputs": [_output(name, array, files.get(name)) for name, array in outputs.items()],
    }


def _model(model: Model) -> Document:
    return {
        "name": model.name,
        "version": model.version,
        "slots": model.slots,
        "has_variables": model.has_variables,
        "inputs": list(map(_port, model.inputs)),
        "outputs": list(map(_port, model.outputs)),
        "direct": model.direct,
        "direct_reason": model.direct_reason,
        "batch": model.batch,
        "batch_reason": model.batch_reason,
        "sequences": model.sequences,
        "weight": model.weight,
        "priority": model.priority,
        "streams": model.streams,
        "threads": model.threads,
        "weights_bytes": model.weights_bytes,
        "memory_bytes": model.memory_bytes,
    }


def _port(port: Port) -> Document:
    shape = None if port.shape is None else list(map(_dimension, port.shape))
    return {"name": port.name, "datatype": port.datatype, "shape": shape, "names": list(port.names)}


def _dimension(dimension: Dimension) -> int | Document:
    if isinstance(dimension, int):
        return dimension
    smallest, largest = dimension or (0, None)
    return {"min": smallest, "max": largest}


def _output(name: str, array: Array, file: Path | None) -> Document:
    found = summary(array)
    document: Document = {
        "name": name,
        "datatype": datatype_of(array.dtype).name,
        "shape": list(array.shape),
        "min": _number(found.min) if found else None,
        "mean": _number(found.mean) if found else None,
        "max": _number(found.max) if found else None,
    }
    return document | ({"data": _data(array)} if file is None else {"file": str(file)})


def _data(array: Array) -> object:
    if array.dtype.hasobject:
        return _mapped(array, lambda element: element.decode(errors="backslashreplace"))
    if array.dtype.kind in "biu":
        return array.tolist()
    # NumPy itself has no bfloat16.
    numbers = array.astype(np.float32) if array.dtype.itemsize == 2 else array
    return numbers.tolist() if np.isfinite(numbers).all() else _mapped(numbers.astype(np.object_), _number)


def _mapped(array: Array, function: Callable[[Any], object]) -> object:
    mapped = np.empty(array.size, np.object_)
    mapped[:] = [function(element) for element in array.flat]
    return mapped.reshape(array.shape).tolist()


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
