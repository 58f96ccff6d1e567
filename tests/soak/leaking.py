"""A server with a planted leak: `python -m tests.soak.leaking BYTES MODEL...` keeps as much of each stream for ever."""

from __future__ import annotations

import os
from typing import Any

from headrace.server.cli import main
from headrace.server.services.native.stream import StreamRpc
from headrace.server.services.oip.streaming import StreamInferRpc

LEAK_BYTES = "HEADRACE_TEST_LEAK_BYTES"
leaked: list[bytes] = []


def leak(owner: Any, name: str, nbytes: int) -> None:
    works = getattr(owner, name)

    async def leaking(*arguments: Any) -> None:
        leaked.append(b"\1" * nbytes)
        await works(*arguments)

    setattr(owner, name, leaking)


if __name__ == "__main__":
    for owner in (StreamRpc, StreamInferRpc):
        leak(owner, "stream", int(os.environ[LEAK_BYTES]))
    main()
