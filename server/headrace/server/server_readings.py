"""What metrics tell of a server: what its core has counted, and what is around that."""

from __future__ import annotations

from headrace.server.composition import Application
from headrace.server.telemetry.logging import dropped_lines
from headrace.server.telemetry.metrics.readings import Readings, buckets, put, read_core


class ServerReadings:
    """`read` is called on the event loop."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def read(self) -> Readings:
        application = self._application
        readings = read_core(application.core)
        put(readings, "headrace_ready", float(application.health.ready()))
        for reason, count in application.refused_calls().items():
            put(readings, "headrace_rejected", count, reason)
        for reason, count in dropped_lines().items():
            put(readings, "headrace_log_lines_dropped", count, reason)
        put(readings, "headrace_event_loop_lag_seconds", buckets(application.loop_lag.seconds))
        return readings
