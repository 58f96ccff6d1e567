"""The examples of every operation on the list of safe ones, in groups."""

from __future__ import annotations

from tests.server.engine.example import Examples
from tests.server.engine.graph.safety import binary, indexed, movement, recurrent, sums, unary

GROUPS: dict[str, Examples] = {
    "unary": unary.EXAMPLES,
    "binary": binary.EXAMPLES,
    "sums": sums.EXAMPLES,
    "movement": movement.EXAMPLES,
    "indexed": indexed.EXAMPLES,
    "recurrent": recurrent.EXAMPLES,
}
