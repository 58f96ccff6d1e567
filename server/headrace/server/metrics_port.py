"""The port for metrics: what there is to tell of this server, and where it listens."""

from __future__ import annotations

import platform
from importlib.metadata import version

from headrace.server.composition import Application
from headrace.server.telemetry.logging import dropped_lines
from headrace.server.telemetry.metrics.answers import ServerAnswers
from headrace.server.telemetry.metrics.endpoint import MetricsServer
from headrace.server.telemetry.metrics.loop_lag import LoopLag
from headrace.server.telemetry.metrics.readings import Readings, buckets, put, read_core
from headrace.server.transport.addresses import CannotListenError, addresses_to_bind
from headrace.server.version import BUILD, VERSION


class MetricsPort:
    """To be made on the event loop. Answers from then on, until the process ends. Raises CannotListenError.

    `transport` is the name of what carries calls.
    """

    def __init__(self, application: Application, host: str, port: int, transport: str) -> None:
        addresses = addresses_to_bind(host, port)
        self.url = f"http://{addresses.shown}/metrics"
        self._application = application
        self._lag: LoopLag | None = None
        build = {
            "version": VERSION,
            "build": BUILD,
            "transport": transport,
            "python": platform.python_version(),
            "openvino": version("openvino"),
            "grpcio": version("grpcio"),
        }
        answers = ServerAnswers(self._read, application.health.ready, build)
        targets = [target.rpartition(":") for target in addresses.targets]
        try:
            self._server = MetricsServer([(host.strip("[]"), int(port)) for host, _, port in targets], answers)
        except OSError as error:  # somebody was faster
            raise CannotListenError(addresses.shown, error.strerror or str(error)) from None
        self._lag = LoopLag()

    def close(self) -> None:
        """Answer no more. Takes up to half a second."""
        self._server.close()
        if self._lag is not None:
            self._lag.close()

    def _read(self) -> Readings:
        application = self._application
        readings = read_core(application.core)
        put(readings, "headrace_ready", float(application.health.ready()))
        for reason, count in application.refused_calls().items():
            put(readings, "headrace_rejected", count, reason)
        for reason, count in dropped_lines().items():
            put(readings, "headrace_log_lines_dropped", count, reason)
        if self._lag is not None:
            put(readings, "headrace_event_loop_lag_seconds", buckets(self._lag.seconds))
        return readings
