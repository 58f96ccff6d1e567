"""The examples of every operation that is held to be safe, in groups."""

from __future__ import annotations

from tests.server.engine.operations import binary, indexed, movement, recurrent, sums, unary
from tests.server.engine.operations.example import Examples

GROUPS: dict[str, Examples] = {
    "unary": unary.EXAMPLES,
    "binary": binary.EXAMPLES,
    "sums": sums.EXAMPLES,
    "movement": movement.EXAMPLES,
    "indexed": indexed.EXAMPLES,
    "recurrent": recurrent.EXAMPLES,
}
