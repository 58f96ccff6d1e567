"""Jobs for worker processes, without a target."""

from __future__ import annotations

from headrace.client.load.callers.caller import Request
from headrace.client.load.planning.phases import OpenLoop, Phase
from headrace.client.load.workers.messages import Job
from headrace.client.protocol.connection_settings import ConnectionSettings

JOB = Job(
    connection=ConnectionSettings(target="127.0.0.1:1"),
    protocol="oip",
    mode="stream",
    request=Request("echo", ""),
    streams=3,
    window=64,
    processes=2,
    phases=(Phase(OpenLoop(200, 200), warmup=0.1, duration=1.0),),
    seed=1,
    patience=5.0,
)
ENDLESS = (Phase(OpenLoop(100, 100), 0.0, 3600.0), Phase(OpenLoop(100, 100), 0.0, 3600.0))
