"""How models are prepared and compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from headrace.server.engine.port_options import ExpectedPort, InputOptions, OutputOptions
from headrace.wire.limits import MAX_PRIORITY

MAX_WEIGHT = 1000
_UNPINNED = {"ENABLE_CPU_PINNING": "NO"}


@dataclass(frozen=True, slots=True)
class Compilation:
    """How a model is compiled.

    `run`: `direct` compiles every model for direct runs, `async` none, `auto` those that were measured to be quick.
    `hint` applies to the others. `properties` are the runtime's own, by name, and override everything else. `slots` is
    the number of InferRequests; 0 takes twice the number that the runtime calls optimal (while one runs, the next waits
    inside the runtime, not for the event loop) or, where each slot has a compiled model of its own, one more than the
    optimal number. `batch` is the maximum number of rows of a run that tickets share; 1 for no such runs, None for as
    many as are measured to pay off.

    `batch_delay` is how many seconds a batch waits to fill; None for as long as batches of all models do. `max_queue`
    and `max_queue_seconds` bound the queue for the slots, 0 for no bound; None for those of all models. `warm_up` is
    the number of runs of zeros in each slot before the model serves.

    `inputs` and `outputs` say by name what is done to them; the options of `*` are those of all others. `state` is what
    becomes of the variables of a model: they are reset before each run, are `ports` of the model, or belong to a
    `sequence`. `extensions` are packages or library files with operations that models need. `labels` is a file with the
    names of classes, a line each. `expected` are the ports that the operator knows of; a model that has others is not
    served.

    Among the models that share the processor, those of the highest `priority` (0 to 9) come first, and of these each
    gets a part of it in proportion to its `weight` (1 to 1000).

    `prune` is `auto` where variants without some of the outputs may be made, for clients that never ask for those.

    `threads` is how many threads of the CPU a model may have for all its runs together, unless its properties say so;
    0 leaves it to the runtime. That counts the processors it sees, and knows nothing of the time a cgroup allows.
    """

    device: str = "CPU"
    run: Literal["auto", "direct", "async"] = "auto"
    hint: Literal["latency", "throughput", "none"] = "throughput"
    properties: Mapping[str, str] = field(default_factory=dict)
    slots: int = 0
    batch: int | None = None
    inputs: Mapping[str, InputOptions] = field(default_factory=dict)
    outputs: Mapping[str, OutputOptions] = field(default_factory=dict)
    state: Literal["reset", "ports", "sequence"] = "reset"
    extensions: tuple[str, ...] = ()
    batch_delay: float | None = None
    max_queue: int | None = None
    max_queue_seconds: float | None = None
    warm_up: int = 0
    labels: str = ""
    weight: int = 1
    priority: int = 0
    expected: tuple[ExpectedPort, ...] = ()
    prune: Literal["auto", "off"] = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for a number that is out of range."""
        if not 1 <= self.weight <= MAX_WEIGHT:
            raise ValueError(f"the weight of a model is from 1 to {MAX_WEIGHT}, not {self.weight}")
        if not 0 <= self.priority <= MAX_PRIORITY:
            raise ValueError(f"the priority of a model is from 0 to {MAX_PRIORITY}, not {self.priority}")

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Compilation:
        """The value whose `asdict` became JSON. Raises TypeError and KeyError."""
        return cls(
            **{
                **document,
                "inputs": {name: InputOptions(**_with_tuples(each)) for name, each in document["inputs"].items()},
                "outputs": {name: OutputOptions(**_with_tuples(each)) for name, each in document["outputs"].items()},
                "extensions": tuple(document["extensions"]),
                "expected": tuple(ExpectedPort(**each) for each in document["expected"]),
            }
        )

    @property
    def on_cpu(self) -> bool:
        """Whether the CPU plugin may execute runs: AUTO and the like may choose it."""
        return self.device.split(".")[0] not in ("GPU", "NPU")

    @property
    def configuration(self) -> dict[str, str]:
        """The properties for the runtime."""
        limited = {"INFERENCE_NUM_THREADS": str(self.threads)} if self.threads and self.device == "CPU" else {}
        if self.hint == "none":
            return {**limited, **self.properties}
        return {"PERFORMANCE_HINT": self.hint.upper(), **self._unpinned, **limited, **self.properties}

    @property
    def direct_configuration(self) -> dict[str, str]:
        """The same for direct runs, which take several times longer on a model compiled for throughput."""
        return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1", **self._unpinned, **self.properties}

    @property
    def _unpinned(self) -> dict[str, str]:
        """Pinned, the streams of every compiled model would be on the same cores, the first ones, and each direct run
        would move the event loop's thread there, whoever has that core."""
        return _UNPINNED if self.device == "CPU" else {}

    def one_stream(self, threads: int) -> dict[str, str]:
        """The same for one of several compiled models that share the processor."""
        return {**_UNPINNED, **self.configuration, "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads)}


def _with_tuples(document: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where the values have tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in document.items()}
