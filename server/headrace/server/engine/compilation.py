"""How models are compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Compilation:
    """How a model is compiled.

    `run`: `direct` compiles every model for direct runs, `async` none, `auto` those that were measured to be quick.
    `hint` applies to the others. `properties` are the runtime's own, by name, and override everything else. `slots` is
    the number of InferRequests; 0 takes twice the number that the runtime calls optimal (while one runs, the next waits
    inside the runtime, not for the event loop) or, where each slot has a compiled model of its own, one more than the
    optimal number. `batch` is the maximum number of rows of a run that tickets share; 1 for no such runs, None for as
    many as are measured to pay off.
    """

    device: str = "CPU"
    run: Literal["auto", "direct", "async"] = "auto"
    hint: Literal["latency", "throughput", "none"] = "throughput"
    properties: Mapping[str, str] = field(default_factory=dict)
    slots: int = 0
    batch: int | None = None

    @property
    def on_cpu(self) -> bool:
        """Whether the CPU plugin may execute runs: AUTO and the like may choose it."""
        return self.device.split(".")[0] not in ("GPU", "NPU")

    @property
    def configuration(self) -> dict[str, str]:
        """The properties for the runtime."""
        hint = {} if self.hint == "none" else {"PERFORMANCE_HINT": self.hint.upper()}
        return {**hint, **self.properties}

    @property
    def direct_configuration(self) -> dict[str, str]:
        """The same for direct runs, which take several times longer on a model compiled for throughput."""
        return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1", **self.properties}

    def one_stream(self, threads: int) -> dict[str, str]:
        """The same for one of several compiled models that share the processor.

        They are not pinned to cores: each would take the first ones.
        """
        unpinned = {"ENABLE_CPU_PINNING": "NO"}
        return {**unpinned, **self.configuration, "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads)}
