"""Calls that stop at every stage, and connections that break there: each takes back what it had."""

from __future__ import annotations

import pytest

from tests.disturbances import retried_if_disturbed
from tests.e2e.serving import Served
from tests.interop.inferences import (
    CHECK,
    INFER,
    MODEL_INFER,
    MODEL_STREAM_INFER,
    REFLECTION,
    STREAM,
    Bystander,
    frame,
    infer,
    model_infer,
)
from tests.interop.peer import Peer, data, prefixed, reset

pytestmark = pytest.mark.transport

MESSAGES = {
    "Infer": (INFER, infer(1, "slow")),
    "ModelInfer": (MODEL_INFER, model_infer(1, "slow")),
    "Stream": (STREAM, frame(1, define=True, model="slow")),
    "ModelStreamInfer": (MODEL_STREAM_INFER, model_infer(1, "slow")),
    "Check": (CHECK, b"\x0a\x05scale"),
    "ServerReflectionInfo": (REFLECTION, b"\x3a\x00"),
}
STAGES = ("headers", "part of the prefix", "the prefix", "half", "all", "the half-close", "the run")
CALLS = 8
SILENT_CALLS = 2000


def sent(message: bytes, stage: str) -> bytes:
    whole = prefixed(message)
    ends = {"headers": 0, "part of the prefix": 3, "the prefix": 5, "half": 5 + len(message) // 2}
    return whole[: ends.get(stage, len(whole))]


def begin(peer: Peer, rpc: str, stage: str, bystander: Bystander) -> list[int]:
    """Calls that have got as far as a stage; after each comes nothing more."""
    path, message = MESSAGES[rpc]
    streams = [peer.opened(path) for _ in range(CALLS)]
    for stream in streams:
        if payload := sent(message, stage):
            peer.send(data(stream, payload, end=stage == "the half-close"))
        elif stage == "the half-close":
            peer.send(data(stream, b"", end=True))
    if stage == "the run" and rpc not in ("Check", "ServerReflectionInfo"):
        bystander.until_running("slow")
    return streams


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("rpc", MESSAGES)
def test_calls_are_reset(shared: Served, unharmed: Bystander, rpc: str, stage: str) -> None:
    with Peer(shared.address) as peer:
        for stream in begin(peer, rpc, stage, unharmed):
            peer.send(reset(stream))
        unharmed.until_idle()
        # The connection is as good as before.
        assert peer.ended(peer.call(MODEL_INFER, model_infer(3))).status == 0


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("rpc", MESSAGES)
def test_connections_break(shared: Served, unharmed: Bystander, rpc: str, stage: str) -> None:
    """By a reset of TCP, and by its end without a goodbye."""
    for abort in (True, False):
        with Peer(shared.address) as peer:
            begin(peer, rpc, stage, unharmed)
            if abort:
                peer.abort()
        unharmed.until_idle()


@pytest.mark.parametrize("stage", STAGES)
def test_clients_fall_silent(shared: Served, unharmed: Bystander, stage: str) -> None:
    """Others are served while they say nothing."""
    with Peer(shared.address) as peer:
        for rpc in MESSAGES:
            begin(peer, rpc, stage, unharmed)
        for _ in range(20):
            unharmed.is_served()


@retried_if_disturbed
def test_calls_without_a_message_keep_no_other_call_waiting(shared: Served, unharmed: Bystander) -> None:
    """However many: to accept one takes a fraction of a millisecond, and to wait for each would take seconds."""
    with Peer(shared.address) as peer:
        for _ in range(SILENT_CALLS):
            peer.opened(MODEL_INFER)
        assert max(unharmed.is_served() for _ in range(5)) < 0.5
    unharmed.until_idle()


@pytest.mark.parametrize("rpc", MESSAGES)
def test_calls_end_in_the_middle_of_a_message(shared: Served, unharmed: Bystander, rpc: str) -> None:
    """Each ends with a status: nothing waits for what cannot come any more."""
    path, message = MESSAGES[rpc]
    with Peer(shared.address) as peer:
        for stage in ("headers", "part of the prefix", "the prefix", "half"):
            stream = peer.opened(path)
            peer.send(data(stream, sent(message, stage), end=True))
            answer = peer.ended(stream)
            assert answer.status is not None, stage
            assert (answer.status == 0) == (rpc not in ("Infer", "ModelInfer", "Check")), stage
