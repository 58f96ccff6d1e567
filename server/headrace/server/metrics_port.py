"""The port for metrics: where it listens, and what is running."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version

from headrace.server.telemetry.metrics.endpoint import Answers, MetricsServer
from headrace.server.transport.addresses import CannotListenError, addresses_to_bind
from headrace.server.version import BUILD, VERSION


class MetricsPort:
    """Answers from now on, until the process ends. Raises CannotListenError."""

    def __init__(self, answers: Answers, host: str, port: int) -> None:
        addresses = addresses_to_bind(host, port)
        self.url = f"http://{addresses.shown}/metrics"
        targets = [target.rpartition(":") for target in addresses.targets]
        try:
            self._server = MetricsServer([(host.strip("[]"), int(port)) for host, _, port in targets], answers)
        except OSError as error:  # somebody was faster
            raise CannotListenError(addresses.shown, error.strerror or str(error)) from None

    def close(self) -> None:
        """Answer no more. Takes up to half a second."""
        self._server.close()


def build(transport: str) -> Mapping[str, str]:
    """What is running; `transport` is the name of what carries calls."""
    return {
        "version": VERSION,
        "build": BUILD,
        "transport": transport,
        "python": platform.python_version(),
        "openvino": version("openvino"),
        "grpcio": version("grpcio"),
    }
