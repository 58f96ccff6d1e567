"""A server whose ServerLive logs LINES debug messages of about a kilobyte: `python -m tests.e2e.talkative MODEL...`."""

from __future__ import annotations

import logging

from headrace.oip import open_inference_pb2 as oip
from headrace.server.cli import main
from headrace.server.services.oip.metadata import MetadataRpcs

LINES = 100
WORD = "talkative"

logger = logging.getLogger("headrace.talkative")


async def server_live(_rpcs: MetadataRpcs, _request: oip.ServerLiveRequest) -> oip.ServerLiveResponse:
    for _ in range(LINES):
        logger.debug("%s %s", WORD, "x" * 1000)
    return oip.ServerLiveResponse(live=True)


if __name__ == "__main__":
    MetadataRpcs.server_live = server_live  # type: ignore[method-assign, assignment]  # on purpose
    main()
