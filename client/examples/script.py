"""The blocking client, for scripts and notebooks: no `async`, no `await`. Ctrl-C works.

The models are those of `graph.py`:

    python client/examples/graph.py --models models
    headrace-server models/scale.xml models/join.xml
    python client/examples/script.py [TARGET]
"""

from __future__ import annotations

import sys

import numpy as np

import headrace.client as hc
import headrace.client.blocking as blocking


def main(target: str) -> None:
    with blocking.connect(target) as server:
        for model in server.models():
            print(model)

        # One inference by itself.
        y = server.infer("scale", {"x": np.ones((1, 16), np.float32)})["y"]
        print(f"2 * 1 + 1 = {y[0, 0]:g}")

        with server.stream() as stream:
            # Many at once: all are in flight before the first result is awaited.
            tickets = [stream.submit("scale", {"x": np.full((1, 16), i, np.float32)}) for i in range(8)]
            print("2i + 1 =", *(f"{ticket.result(timeout=5)['y'][0, 0]:g}" for ticket in tickets))

            # Run now, keep the large outputs on the server, and fetch a slice later.
            x, y = np.random.default_rng(0).random((2, 1000, 16), np.float32)
            ticket = stream.submit("join", {"x": x, "y": y}, outputs=[], keep=["sum", "product"])
            ticket.result(timeout=5)
            print(f"rows 5 to 8 of the product: {ticket.fetch('product', slice=(5, 8)).shape}")
            ticket.release()

            # An error belongs to its ticket. The stream goes on.
            try:
                stream.submit("scale", {"x": np.ones((1, 3), np.float32)}).result(timeout=5)
            except hc.InvalidArgument as error:
                print(f"as expected: {error}")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001")
    except hc.HeadraceError as error:
        sys.exit(f"{error.code.name}: {error.message}")
