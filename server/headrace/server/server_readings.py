"""What metrics tell of a server: what its core has counted, and what is around that."""

from __future__ import annotations

from headrace.server.composition import Application
from headrace.server.telemetry.logging import dropped_lines
from headrace.server.telemetry.metrics.loop_lag import LoopLag
from headrace.server.telemetry.metrics.readings import Readings, buckets, put, read_core


class ServerReadings:
    """To be made on the event loop, where `read` is called."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._lag = LoopLag()

    def read(self) -> Readings:
        application = self._application
        readings = read_core(application.core)
        put(readings, "headrace_ready", float(application.health.ready()))
        for reason, count in application.refused_calls().items():
            put(readings, "headrace_rejected", count, reason)
        for reason, count in dropped_lines().items():
            put(readings, "headrace_log_lines_dropped", count, reason)
        put(readings, "headrace_event_loop_lag_seconds", buckets(self._lag.seconds))
        return readings

    def close(self) -> None:
        self._lag.close()
