"""A server on a grpcio without a name that the completion queue needs: `python -m tests.e2e.other_grpcio MODEL...`."""

from __future__ import annotations

from typing import Any

from grpc._cython import cygrpc as layer  # type: ignore[attr-defined]  # noqa: TID251 - that is what differs

from headrace.server.cli import main

if __name__ == "__main__":
    cygrpc: Any = layer
    del cygrpc.ReceiveCloseOnServerOperation
    main()
