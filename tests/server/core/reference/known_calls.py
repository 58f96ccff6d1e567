"""Models for the state machine, and every kind of call to them, good and bad."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

from headrace.server.core.calls import Call, Inline, Reference, Zeros
from headrace.server.core.specs import ModelSpec, Port
from headrace.wire.dtypes import ITEMSIZE, Datatype
from tests.server.core.model_specs import model, port
from tests.server.core.reference.expected import KnownCall

_MODELS = (
    # One slot, small static outputs, one of them of another datatype.
    model("one", [port(0, "x", 4)], [port(0, "y|why", 4), port(1, "t", 2, datatype=Datatype.INT64)], slots=1),
    # Two inputs, bounded and not, two slots, a dynamic output.
    model("two", [port(0, "a", None), port(1, "b", (0, 4))], [port(0, "sum", None)], slots=2),
    # Three slots, an output too large for a small message, one that may be and has a name of the input's.
    model("three", [port(0, "x|z", (1, 5))], [port(0, "big", 40_000), port(1, "z", None), port(2, "y", 4)], slots=3),
    # Batches in one slot; one output costs more to keep the more rows it has.
    model("many", [port(0, "x", None)], [port(0, "y", None), port(1, "z", None, 300)], direct=True, batch=4),
    # Two inputs, which may disagree; two slots, which share what is queued; an output too large for a small message.
    model(
        "pairs",
        [port(0, "a", None), port(1, "b", None)],
        [port(0, "y", None), port(1, "big", None, 20_000)],
        slots=2,
        batch=3,
    ),
)
_BOUNDED = replace(_MODELS[-1], max_queue=3, max_queue_seconds=1.5)
MODELS = tuple(
    # Those that do not run directly share the processor.
    replace(spec, streams=streams, threads=threads, weight=weight, priority=priority)
    for spec, (streams, threads, weight, priority) in zip(
        [*_MODELS[:-1], _BOUNDED], [(1, 1, 1, 0), (2, 1, 3, 0), (1, 2, 1, 1), (1, 1, 1, 0), (2, 1, 1, 0)], strict=True
    )
)
NAMES = ("y", "why", "t", "sum", "big", "z", "x", "a", "b", "nothing")


def _good(random: Random, spec: ModelSpec) -> KnownCall:
    inputs: list[Inline | Reference | Zeros] = []
    sizes: list[int] = []
    references: list[tuple[Port, str, bool]] = []
    # In batches inputs have to agree, and must be small.
    sizes_of = (0, *[1] * 10, 2, 2, 2, 3, 5) if spec.batch > 1 else (1, 4)
    same = random.choice(sizes_of) if spec.batch > 1 and random.random() < 0.8 else None
    for each in random.sample(spec.inputs, len(spec.inputs)):
        assert each.shape is not None
        chosen = random.choice(sizes_of) if same is None else same
        shape = tuple(size.min if size.min == size.max else chosen for size in each.shape)
        kind = random.choice(["inline"] * 4 + ["reference"] * 4 + ["zeros"])
        if kind == "reference":
            output, take = random.choice(NAMES[:-1]), random.random() < 0.3
            inputs.append(Reference(each.name, output, take))
            references.append((each, output, take))
        elif kind == "zeros":
            inputs.append(Zeros(each.name, each.datatype, shape))
        else:
            inputs.append(Inline(each.name, each.datatype, shape))
            sizes.append(math.prod(shape) * ITEMSIZE[each.datatype])
    every = random.random() < 0.3
    some = random.sample(spec.outputs, random.randint(0, len(spec.outputs)))
    keep = random.sample(spec.outputs, random.randint(0, len(spec.outputs)))
    keep = [] if spec.batch > 1 and random.random() < 0.5 else keep
    call = Call(
        spec.name,
        random.choice(["", "1"]),
        tuple(inputs),
        () if every else tuple(random.choice(each.names) for each in some),
        every,
        tuple(random.choice(each.names) for each in keep),
    )
    outputs = spec.outputs if every else tuple(some)
    given = random.sample(spec.inputs, random.randint(1, len(spec.inputs))) if random.random() < 0.3 else []
    names = tuple(random.choice(each.names) for each in given)
    call = replace(call, keep_inputs=names)
    both = {name for each in keep for name in each.names} & {name for each in given for name in each.names}
    wrong = "INVALID_ARGUMENT" if both else None
    return KnownCall(call, spec, wrong, tuple(sizes), tuple(references), outputs, tuple(keep), tuple(given))


def _bad(random: Random, good: KnownCall) -> KnownCall:
    call, first, rest = good.call, good.call.inputs[0], good.call.inputs[1:]
    bad, code = random.choice(
        [
            (replace(call, model="none"), "NOT_FOUND"),
            (replace(call, version="2"), "NOT_FOUND"),
            (replace(call, inputs=rest), "INVALID_ARGUMENT"),
            (replace(call, inputs=(first, first, *rest)), "INVALID_ARGUMENT"),
            (replace(call, inputs=(Inline("none", 11, ()), first, *rest)), "INVALID_ARGUMENT"),
            (replace(call, inputs=(Inline(first.name, 12, (4,)), *rest)), "INVALID_ARGUMENT"),
            (replace(call, inputs=(Inline(first.name, 99, (4,)), *rest)), "INVALID_ARGUMENT"),
            (replace(call, inputs=(Inline(first.name, 11, (4, 4)), *rest)), "INVALID_ARGUMENT"),
            (replace(call, inputs=(Inline(first.name, 11, (-4,)), *rest)), "INVALID_ARGUMENT"),
            (replace(call, inputs=(Zeros(first.name, 14, (4,)), *rest)), "INVALID_ARGUMENT"),
            (replace(call, outputs=("none",), all_outputs=False), "NOT_FOUND"),
            (replace(call, outputs=("none",), all_outputs=True), "INVALID_ARGUMENT"),
            (replace(call, keep=("none",)), "NOT_FOUND"),
            (replace(call, keep=(good.spec.outputs[0].name,) * 2), "INVALID_ARGUMENT"),
            (replace(call, keep_inputs=("none",)), "INVALID_ARGUMENT"),
            (replace(call, keep_inputs=(first.name,) * 2), "INVALID_ARGUMENT"),
        ]
    )
    return replace(good, call=bad, wrong=code)


def _calls() -> tuple[KnownCall, ...]:
    """The same ones each time. Many: what matters is which of them meet."""
    random = Random(7)
    good = [_good(random, random.choice(MODELS)) for _ in range(500)]
    return (*good, *(_bad(random, random.choice(good)) for _ in range(60)))


CALLS = _calls()
