"""A graph of models, built from tickets: it fans out, joins again, and returns only its last output.

          ┌─ scale ──────────┐
    scale ┤                  ├─ join ─ sum
          └─ scale ─ scale ──┘

All five tickets are submitted before the first has run. Write the two models, start a server for them, and run it:

    python client/examples/graph.py --models models
    headrace-server models/scale.xml models/join.xml
    python client/examples/graph.py [TARGET]
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

import headrace.client as hc

ROWS = 10_000


async def main(target: str) -> None:
    x = np.random.default_rng(0).random((ROWS, 16), np.float32)
    async with hc.connect(target) as server, server.stream() as stream:

        async def scale(source: hc.Reference | npt.NDArray[np.float32]) -> hc.Ticket:
            return await stream.submit("scale", {"x": source}, outputs=[], keep=["y"])

        first = await scale(x)
        left = await scale(first["y"])  # this and the next refer to the first
        middle = await scale(first["y"])
        right = await scale(middle.take("y"))  # consumes it: the output is freed once this has run
        both = {"x": left.take("y"), "y": right.take("y")}
        join = await stream.submit("join", both, outputs=["sum"], keep=["product"])
        total = (await join)["sum"]

        rows = await join.fetch("product", slice=(0, 2))  # a slice of a kept output
        kept = (await server.status()).kept_bytes

    print(f"the sum is that of NumPy: {np.allclose(total, (4 * x + 3) + (8 * x + 7), rtol=1e-2)}")
    print(f"{x.nbytes:,} bytes were sent; {total.nbytes:,} of sum and {rows.nbytes:,} of product came back")
    print(f"four tensors in between, {4 * x.nbytes:,} bytes, never left the server; it kept {kept:,} bytes at the end")


def write_models(folder: Path) -> None:
    """Write scale (y = 2x + 1) and join (the sum and the product of x and y). All tensors are f32[?,16]."""
    import openvino as ov
    from openvino import opset15 as op

    def named(name: str, node: ov.Node) -> ov.Node:
        node.output(0).set_names({name})
        return node

    x = named("x", op.parameter([-1, 16], np.float32))
    scaled = named("y", op.add(op.multiply(x, np.float32(2)), np.float32(1)))
    ov.save_model(ov.Model([scaled], [x], "scale"), folder / "scale.xml")  # creates the folder
    x, y = (named(name, op.parameter([-1, 16], np.float32)) for name in "xy")
    joined = [named("sum", op.add(x, y)), named("product", op.multiply(x, y))]
    ov.save_model(ov.Model(joined, [x, y], "join"), folder / "join.xml")


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["--models"]:
            write_models(Path(sys.argv[2]))
        else:
            asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001"))
    except hc.HeadraceError as error:
        sys.exit(f"{error.code.name}: {error.message}")
