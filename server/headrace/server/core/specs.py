"""The inputs and outputs of a model: names, datatypes, shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from headrace.wire.dtypes import Datatype
from headrace.wire.errors import InvalidArgument, NotFound, listed, quote

MAX_BATCH = 64
"""Rows. At 64 the cost that rows share is a few per cent of a row's, or the batch takes as long as it may; and each
number of rows is a shape that the runtime has to prepare, 0.2 ms for the smallest of models."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """`min` to `max` elements; static when they are equal, unbounded when `max` is -1."""

    min: int
    max: int

    def admits(self, size: int) -> bool:
        return self.min <= size and (self.max < 0 or size <= self.max)

    def overlaps(self, other: Dimension) -> bool:
        return (self.max < 0 or other.min <= self.max) and (other.max < 0 or self.min <= other.max)

    @property
    def static(self) -> bool:
        return self.min == self.max

    def __str__(self) -> str:
        if self.static:
            return str(self.min)
        if self.max < 0:
            return "?" if self.min == 0 else f"{self.min}.."
        return f"{self.min}..{self.max}"


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output. `shape` is None for any rank. `names` are sorted; the first is the one shown.

    An input that is kept is a port of its own, so that no output has the same index: see `as_kept_input`.
    """

    index: int
    names: tuple[str, ...]
    datatype: Datatype
    shape: tuple[Dimension, ...] | None
    static_shape: tuple[int, ...] | None = field(init=False, repr=False, compare=False)
    """None with a dynamic dimension."""

    def __post_init__(self) -> None:
        static = self.shape is not None and all(dimension.static for dimension in self.shape)
        sizes = tuple(dimension.min for dimension in self.shape or ())
        object.__setattr__(self, "static_shape", sizes if static else None)

    @property
    def name(self) -> str:
        return self.names[0]

    def as_kept_input(self) -> Port:
        """The same input among the kept outputs of a ticket: its index is the complement of the input's."""
        return replace(self, index=~self.index)

    @property
    def is_kept_input(self) -> bool:
        return self.index < 0

    def admits(self, shape: Sequence[int]) -> bool:
        if self.static_shape is not None:
            return tuple(shape) == self.static_shape
        return self.shape is None or (
            len(shape) == len(self.shape)
            and all(dimension.admits(size) for dimension, size in zip(self.shape, shape, strict=True))
        )

    def overlaps(self, other: Port) -> bool:
        """Whether some shape fits both."""
        if self.static_shape is not None and other.static_shape is not None:
            return self.static_shape == other.static_shape
        if self.shape is None or other.shape is None:
            return True
        return len(self.shape) == len(other.shape) and all(
            a.overlaps(b) for a, b in zip(self.shape, other.shape, strict=True)
        )

    def __str__(self) -> str:
        shape = "any rank" if self.shape is None else ",".join(map(str, self.shape))
        return f"{self.datatype.name}[{shape}]"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A version of a model as clients see it. Ports are in the order of the model.

    `direct`: runs that are fast enough happen in place, one after another. `batch`: the most rows in a run that tickets
    share; 1 when they share none. With batches all inputs and outputs have a dynamic first axis and no other dynamic
    dimension. `sequences`: its variables go from request to request of a sequence; otherwise they are reset before each
    run. `direct_reason` says why runs are not direct, `batch_reason` how many rows they have and what limits
    them. `batch_delay` is how many seconds a batch waits to fill; None for as long as those of all models do. `labels`
    are names of classes, if the operator has given any.

    `max_queue` and `max_queue_seconds` bound its queue, 0 for no bound; None for those of all models.

    `streams` is how many runs compute at once, where the others wait for them in the runtime, and `threads` how many
    threads of the processor each of them takes: 0 if it computes elsewhere. Among the models that share the processor,
    those of the highest `priority` come first, and of these each gets a part in proportion to its `weight`.

    `prunes`: variants of it may be made, which compute only some of its outputs. A variant is `pruned_to` these, by
    index, and has the same name, version and inputs. To clients there is only the model, to which plans are bound.

    `weights_bytes` is the size of its constants in its file, `memory_bytes` what loading it has added to the process.
    `fingerprint` is 64 bits of a hash of its files, 0 if that is not known.
    """

    name: str
    version: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    has_variables: bool
    slots: int
    direct: bool = False
    batch: int = 1
    sequences: bool = False
    direct_reason: str = field(default="", repr=False, compare=False)
    batch_reason: str = field(default="", repr=False, compare=False)
    batch_delay: float | None = None
    max_queue: int | None = None
    max_queue_seconds: float | None = None
    labels: Sequence[str] = field(default=(), repr=False, compare=False)
    output_labels: Mapping[int, Sequence[str]] = field(default_factory=dict, repr=False, compare=False)
    """Those of outputs that have labels of their own, by index."""
    indices: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    """The outputs that have the largest elements of the model's, and the outputs with the indices of those."""
    streams: int = 1
    threads: int = 0
    weight: int = 1
    priority: int = 0
    weights_bytes: int = field(default=0, repr=False, compare=False)
    memory_bytes: int = field(default=0, repr=False, compare=False)
    fingerprint: int = field(default=0, repr=False, compare=False)
    prunes: bool = False
    pruned_to: tuple[int, ...] = ()
    _inputs: dict[str, Port] = field(init=False, repr=False, compare=False)
    _outputs: dict[str, Port] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_inputs", {name: port for port in self.inputs for name in port.names})
        object.__setattr__(self, "_outputs", {name: port for port in self.outputs for name in port.names})

    def __str__(self) -> str:
        how = "runs directly" if self.direct else f"{self.slots} slots"
        rows = f"batches of up to {self.batch} rows" if self.batch > 1 else "no batches"
        only = f" pruned to {_listed(self.outputs)}" if self.pruned_to else ""
        return f"model {quote(self.name)} version {self.version}{only} ({how}, {rows})"

    @property
    def resets(self) -> bool:
        """Whether it forgets what its variables hold before each run."""
        return self.has_variables and not self.sequences

    def reasons(self) -> str:
        """Why it runs as it does, for the log; empty when there is nothing to say."""
        direct = f"it does not run directly: {self.direct_reason}" if self.direct_reason else ""
        batch = f"it {'runs in batches of' if self.batch > 1 else 'does not run in batches:'} {self.batch_reason}"
        return "; ".join(part for part in (direct, batch if self.batch_reason else "") if part)

    def input(self, name: str) -> Port:
        """Raises InvalidArgument for an unknown name."""
        port = self._inputs.get(name)
        if port is None:
            raise InvalidArgument(f"model {quote(self.name)} has no input {quote(name)}; it has {_listed(self.inputs)}")
        return port

    def output(self, name: str) -> Port:
        """Raises NotFound for an unknown name."""
        port = self._outputs.get(name)
        if port is None:
            raise NotFound(f"model {quote(self.name)} has no output {quote(name)}; it has {_listed(self.outputs)}")
        return port

    def labels_of(self, output: Port) -> Sequence[str]:
        """The names of the classes of an output, if there are any."""
        return self.output_labels.get(output.index, self.labels)


def _listed(ports: tuple[Port, ...]) -> str:
    return listed([port.name for port in ports], len(ports))
