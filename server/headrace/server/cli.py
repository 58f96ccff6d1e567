"""The `headrace-server` command: flags, environment variables and a file become settings.

Its imports stay within the base install, so that without the extra it can say what is missing.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import MutableMapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter, config

from headrace.server.settings import Settings
from headrace.server.version import VERSION

USAGE_EXIT_CODE = 2
"""The command cannot run as it was called or installed."""

app = App(
    name="headrace-server",
    usage="Usage: headrace-server [OPTIONS] [MODEL...]",
    help="Serve OpenVINO models over gRPC.",
    help_epilogue="Every option is also an environment variable (HEADRACE_PORT) and a key of the TOML file (port).",
    version=VERSION,
    result_action="return_value",
)
app.meta.result_action = "return_value"


def check_toml(_type: Any, file: Path | None) -> None:
    """Raises ValueError for a file that cannot be read as TOML."""
    if file is None:
        return
    try:
        tomllib.loads(file.read_text())
    except OSError as error:
        raise ValueError(f"The file cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"The file is not valid TOML: {error}") from None


def ignore_service_links(environment: MutableMapping[str, str]) -> None:
    """Remove HEADRACE_PORT if it is an address, and say so.

    Kubernetes sets it like that in every pod beside a service that is called headrace. The port of the service need not
    be that of the server.
    """
    name = "HEADRACE_PORT"
    if re.match(r"(tcp|udp|sctp)://", environment.get(name, "")):
        address = environment.pop(name)
        print(
            f"headrace-server: {name}={address} is ignored: Kubernetes sets it for the service headrace. "
            "Use --port, or set enableServiceLinks to false in the pod.",
            file=sys.stderr,
        )


@app.default
def serve(
    *models: Annotated[
        str,
        Parameter(
            name="MODEL",
            help="Model file (.xml, .onnx, ...), folder with a model, or folder with a folder for each version; or "
            "NAME=PATH.",
        ),
    ],
    settings: Settings = Settings(),  # noqa: B008 - frozen
) -> int:
    if not models and not settings.repository:
        print("headrace-server: name a MODEL, or a folder of models with --repository", file=sys.stderr)
        return USAGE_EXIT_CODE
    from headrace.server.server import run

    return run(models, settings)


@app.meta.default
def configured(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    file: Annotated[
        Path | None,
        Parameter(
            name="--config",
            env_var="HEADRACE_CONFIG",
            help="TOML file with options.",
            validator=check_toml,
        ),
    ] = None,
) -> object:
    ignore_service_links(os.environ)
    environment = config.Env("HEADRACE_", command=False)
    app.config = (environment,) if file is None else (environment, config.Toml(file))
    return app(tokens)


def main() -> None:
    if find_spec("openvino") is None:
        print("headrace-server needs its extra. Install it with: pip install 'headrace[server]'", file=sys.stderr)
        sys.exit(USAGE_EXIT_CODE)
    sys.exit(app.meta())
