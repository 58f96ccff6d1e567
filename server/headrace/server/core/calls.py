"""A call, and its plan once it is bound to a model: everything that is the same for each of its inferences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.server.core.specs import ModelSpec, Port
from headrace.wire.dtypes import datatype_from
from headrace.wire.errors import InvalidArgument, quote
from headrace.wire.limits import MAX_PORTS
from headrace.wire.tensors import byte_count

MAX_ZERO_BYTES = 64 << 20
"""Inputs of zeros of one call: they occupy memory while they run, though no client has sent them."""
_EVENT_BYTES = 80
_TENSOR_BYTES = 48
_CALL_BYTES, _INPUT_BYTES, _NAME_BYTES, _SIZE_BYTES = 512, 160, 64, 40
"""Memory of a call and its plan: of the call itself, and of each input, name, and size in a shape."""


@dataclass(frozen=True, slots=True)
class Inline:
    """An input whose bytes come with each Infer. `datatype` is the number from the message, unchecked."""

    name: str
    datatype: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """An input that is a kept output of an earlier ticket."""

    name: str
    output: str
    take: bool


@dataclass(frozen=True, slots=True)
class Zeros:
    """An input of zeros. `datatype` is the number from the message, unchecked."""

    name: str
    datatype: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """The description as the client gave it, unchecked.

    `refusal` says why a description is too large to be read. The rest is then empty, and the error comes when the call
    is used.
    """

    model: str
    version: str
    inputs: tuple[Inline | Reference | Zeros, ...]
    outputs: tuple[str, ...]
    all_outputs: bool
    keep: tuple[str, ...]
    keep_inputs: tuple[str, ...] = ()
    refusal: str = ""

    @property
    def memory_bytes(self) -> int:
        """What these objects take, besides the characters of names and numbers as the client has written them.

        That is up to 36 times as much as those: a number of one byte becomes a Python object of 28 and a pointer to it.
        """
        # Outputs that are kept are also found by name, and inputs that are kept are ports of their own.
        names = len(self.outputs) + 2 * len(self.keep) + 4 * len(self.keep_inputs) + 2 * len(self.inputs)
        sizes = sum([len(each.shape) for each in self.inputs if not isinstance(each, Reference)])
        return _CALL_BYTES + _NAME_BYTES * names + _INPUT_BYTES * len(self.inputs) + _SIZE_BYTES * sizes


@dataclass(frozen=True, slots=True)
class BoundInline:
    port: Port
    shape: tuple[int, ...]
    nbytes: int | None  # None: BYTES


@dataclass(frozen=True, slots=True)
class BoundReference:
    port: Port
    output: str
    take: bool


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A call bound to a version of a model. All inferences of the call share this object, so caches may key on it.

    `inline` and `references` are in the order of the call, `outputs` in the order in which they are sent. `keep` has
    the outputs that are kept, and then the inputs.
    """

    spec: ModelSpec
    inline: tuple[BoundInline, ...]
    references: tuple[BoundReference, ...]
    zeros: tuple[BoundInline, ...]
    outputs: tuple[Port, ...]
    keep: tuple[Port, ...]
    shapes: tuple[tuple[int, tuple[int, ...]], ...]
    """Port index and shape of each input that is not a reference."""
    fixed: bool
    """Whether the shapes of references are known too: their ports have no dynamic dimension."""
    sizes: tuple[int | None, ...]
    """Bytes of each inline input."""
    sent_bytes: int | None
    """Bytes of the outputs to send; None when a shape is dynamic."""
    kept_bytes: tuple[int, ...]
    """Bytes of each kept output; 0 when they are not known before its run."""
    overhead: int
    """Bytes of an event of this call besides its tensors, at most."""
    rows: int | None
    """Of the inputs that are not references, along the first axis, if the model or a variant may have batches; 0 when
    they differ."""
    kept: Mapping[str, Port]
    """The ports in `keep`, by each of their names."""
    keeps_inputs: bool
    asked: frozenset[int]
    """The outputs that are sent or kept, by index."""


def bind(call: Call, spec: ModelSpec) -> Plan:
    """Check a call against a model. Raises InvalidArgument or NotFound, naming what is wrong."""
    inline: list[BoundInline] = []
    references: list[BoundReference] = []
    zeros: list[BoundInline] = []
    given: dict[int, str] = {}
    if call.refusal:
        raise InvalidArgument(call.refusal)
    _bounded("inputs", call.inputs)
    for source in call.inputs:
        port = spec.input(source.name)
        if port.index in given:
            raise InvalidArgument(
                f"input {quote(source.name)} is given twice"
                + (f", first as {quote(given[port.index])}" if given[port.index] != source.name else "")
            )
        given[port.index] = source.name
        if isinstance(source, Inline):
            inline.append(_bind_shape(source, port))
        elif isinstance(source, Zeros):
            zeros.append(_bind_shape(source, port))
        else:
            references.append(BoundReference(port, source.output, source.take))
    missing = [port for port in spec.inputs if port.index not in given]
    if missing:
        # Without it the run would use what the slot was last given: another client's data.
        raise InvalidArgument(f"input {quote(missing[0].name)} of model {quote(spec.name)} is missing")
    _check_zeros(zeros)
    if call.all_outputs and call.outputs:
        raise InvalidArgument(f"the call asks for all outputs, but also names output {quote(call.outputs[0])}")
    outputs = spec.outputs if call.all_outputs else _ports("outputs", call.outputs, spec)
    sizes = [static_bytes(port) for port in outputs]
    kept_inputs = _kept_inputs(call.keep_inputs, spec)
    keep = (*_ports("keep", call.keep, spec), *kept_inputs)
    shapes = tuple((bound.port.index, bound.shape) for bound in (*inline, *zeros))
    return Plan(
        spec,
        tuple(inline),
        tuple(references),
        tuple(zeros),
        outputs,
        keep,
        shapes,
        all(bound.port.static_shape is not None for bound in references),
        tuple(bound.nbytes for bound in inline),
        None if None in sizes else sum(size or 0 for size in sizes),
        tuple(_kept_bytes(port, (*inline, *zeros)) for port in keep),
        _EVENT_BYTES
        + len(spec.version.encode())
        + sum(_TENSOR_BYTES + len(port.name.encode()) for port in (*outputs, *keep)),
        _rows(shapes) if spec.batch > 1 or spec.prunes else None,
        _by_name(keep),
        bool(kept_inputs),
        frozenset([port.index for port in (*outputs, *keep) if port.index >= 0]),
    )


def _rows(shapes: Sequence[tuple[int, tuple[int, ...]]]) -> int | None:
    """The size of the first axis that all have in common; 0 when they differ, None when there are none."""
    sizes = {shape[0] if shape else 0 for _, shape in shapes}
    if not sizes:
        return None
    return sizes.pop() if len(sizes) == 1 else 0


def _bind_shape(source: Inline | Zeros, port: Port) -> BoundInline:
    try:
        datatype = datatype_from(source.datatype)
        nbytes = byte_count(datatype, source.shape)
    except InvalidArgument as error:
        raise InvalidArgument(f"input {quote(source.name)}: {error.message}") from None
    if datatype is not port.datatype:
        raise InvalidArgument(
            f"input {quote(source.name)} has datatype {datatype.name}; the model takes {port.datatype.name}"
        )
    if not port.admits(source.shape):
        raise InvalidArgument(f"input {quote(source.name)} has shape {list(source.shape)}; the model takes {port}")
    return BoundInline(port, source.shape, nbytes)


def _check_zeros(zeros: Sequence[BoundInline]) -> None:
    for bound in zeros:
        if bound.nbytes is None:
            raise InvalidArgument(f"input {quote(bound.port.name)} has datatype BYTES, which cannot be zeros")
    total = sum(bound.nbytes or 0 for bound in zeros)
    if total > MAX_ZERO_BYTES:
        raise InvalidArgument(f"the call asks for {total} bytes of zeros; the limit is {MAX_ZERO_BYTES}")


def _kept_inputs(names: Sequence[str], spec: ModelSpec) -> tuple[Port, ...]:
    _bounded("keep_inputs", names)
    ports: dict[int, Port] = {}
    for name in names:
        port = spec.input(name)
        if port.index in ports:
            raise InvalidArgument(f"input {quote(name)} is named twice in keep_inputs")
        ports[port.index] = port.as_kept_input()
    return tuple(ports.values())


def _by_name(keep: Sequence[Port]) -> dict[str, Port]:
    """Raises InvalidArgument for a name that both an output and an input have."""
    ports: dict[str, Port] = {}
    for port in keep:
        for name in port.names:
            if port.is_kept_input and name in ports:
                raise InvalidArgument(
                    f"input {quote(port.name)} cannot be kept beside output {quote(ports[name].name)}, which has the "
                    f"name {quote(name)} as well"
                )
            ports[name] = port
    return ports


def _kept_bytes(port: Port, given: Sequence[BoundInline]) -> int:
    """Bytes of a kept output, or of a kept input that is one of those `given` or a reference; 0 if not known."""
    if port.is_kept_input:
        for bound in given:
            if bound.port.index == ~port.index:
                return bound.nbytes or 0
    return static_bytes(port) or 0


def _ports(what: str, names: Sequence[str], spec: ModelSpec) -> tuple[Port, ...]:
    _bounded(what, names)
    ports: dict[int, Port] = {}
    for name in names:
        port = spec.output(name)
        if port.index in ports:
            raise InvalidArgument(f"output {quote(name)} is named twice in {what}")
        ports[port.index] = port
    return tuple(ports.values())


def _bounded(what: str, items: Sequence[object]) -> None:
    if len(items) > MAX_PORTS:
        raise InvalidArgument(too_many(what, len(items)))


def too_many(what: str, count: int) -> str:
    return f"the call names {count} {what}; the limit is {MAX_PORTS}"


def static_bytes(port: Port) -> int | None:
    """Bytes of an output of a static shape; None when it is dynamic, or of BYTES."""
    shape = port.static_shape
    return None if shape is None else byte_count(port.datatype, shape)
