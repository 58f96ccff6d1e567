"""What a walk draws its commands from.

Numbers stand for a choice among what there is at that moment, so that most commands make sense; each may also be wrong.
How often a value is drawn is how often it stands in its sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from headrace.server.core.engine_api import Slices
from tests.server.core.reference.known_calls import CALLS
from tests.server.core.reference.shapes import compatible

MAX_CALLS = 4
"""Calls that a stream may define in a walk."""
MAX_STREAMS = 5
OWNERS = 3
"""Owners of streams, so that some have several."""
WINDOW = 5
TAGS = 10
"""Tags that clients use: few, so that they meet."""
REFERRING = [call for call in CALLS if call.references and call.wrong is None]
INLINE = [call for call in CALLS if not call.references and call.wrong is None]
POOLS = {"any": CALLS, "inline": INLINE, "reference": REFERRING[:100]}
for _name in ("many", "pairs"):
    POOLS[_name] = [call for call in INLINE if call.spec.name == _name]
    POOLS[f"reference to {_name}"] = [call for call in REFERRING if call.spec.name == _name]
CHAINS = [
    (first, link)
    for link in REFERRING
    for first in INLINE
    if first.spec is link.spec
    and all(
        any(name in output.names and compatible(output, port) for output in call.keep)
        for call in (first, link)
        for port, name, _ in link.references
    )
]
"""A call, and one that goes on from what either of them keeps."""
KINDS = ("reference",) * 6 + ("inline",) * 4 + ("any",)
SINGLE_KINDS = ("many", "many", "many", "pairs", "reference to many", "any")
CROWD_KINDS = ("many", "many", "reference to many", "pairs", "reference to pairs")
KEEP_BYTES = (3000, 6000, 400_000, 400_000)
KEEP_BYTES_TOTAL = (4000, 9000, 1_000_000, 1_000_000)
QUEUE_BYTES = (100, 1000, 10_000)
MAX_QUEUES = (0, 0, 1, 2, 4)
MAX_QUEUE_SECONDS = (0.0, 0.0, 0.25, 0.75)
MEMORY = (12_000, 40_000, 40_000, 1 << 30, 1 << 30)
UNSENT_BYTES = (0, 40, 1000, 1 << 30)
TIMEOUTS = (0.0, 0.0, 0.0, 0.0, 0.0, 1 / 64, 0.25, 0.5, 1.0, 2.0)
PRIORITIES = (0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 5, 5, 9, 9, 10)
MAX_PRIORITIES = (9, 9, 9, 5, 0)
PROCESSORS = (0, 0, 1, 2)
DELAYS = (0.0, 0.0, 0.0, 0.5)
COALESCE = (True, True, True, False)
PAUSES = (0.0, 0.0, 1 / 4096, 1 / 1024)
"""Seconds between two requests that come one after the other."""
STREAM_KINDS = ("native", "native", "call", "other protocol", "other protocol")
SIZES = (4, 4, 4, 0, 1, 3, 500, 40_000)
OTHERS = ("release", "release", "release", "cancel", "cancel", "cancel", "define", "open", "reject")
_BOUNDS = ((0, 2), (0, 4), (1, 1), (2, 3), (-1, 2), (2, 1), (0, 5), (0, 40_000))
SLICES = ((), (), (), *((each,) for each in _BOUNDS), ((0, 1), (0, 1)), ((0, 0),) * 33)
_PARTS: tuple[Slices, ...] = (
    *(((0, size),) for size in (1, 1, 2, 4, 4, 5)),
    *(((1, stop),) for stop in (1, 2, 2, 3, 5)),
    ((39_996, 40_000),),
    *(((0, 1), (0, 1)), ((-1, 2),), ((2, 1),), ((0, 40_001),), ((0, 0),) * 33),
)
PARTS: tuple[tuple[Slices, Slices], ...] = (
    *[((), ())] * 2 * len(_PARTS),
    *((part, part) for part in _PARTS),
    *(((), part) for part in _PARTS),
)
"""Of the sources of an Infer: mostly all of them."""
T = TypeVar("T")


@dataclass(frozen=True)
class Infer:
    call: int
    number: int
    defines: bool
    kind: str
    tag: int
    sources: tuple[int, int, int]
    parts: tuple[Slices, Slices]
    """Of the sources in turn."""
    timeout: float
    priority: int
    wrong_sizes: bool
    wrong_sources: bool
    wrong_tag: bool


@dataclass(frozen=True)
class Fetch:
    tag: int
    source: int
    slices: tuple[tuple[int, int], ...]
    wrong_tag: bool
    wrong_source: bool


@dataclass(frozen=True)
class Other:
    kind: str
    tag: int
    name: int
    choice: int


Command = Infer | Fetch | Other


def pick(items: Sequence[T], at: int) -> T:
    return items[at % len(items)]


def rotated(items: Sequence[T], at: int) -> Iterator[T]:
    """The items from one on, in a circle."""
    return (items[(at + step) % len(items)] for step in range(len(items)))
