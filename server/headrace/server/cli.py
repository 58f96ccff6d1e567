"""The `headrace-server` command: flags, environment variables and a file become settings and models.

Its imports stay within the base install, so that without the extra it can say what is missing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter, config

from headrace.server.environment import PREFIX, ignore_service_links, unknown_variables
from headrace.server.repository.scan import Disk, UnreadableRepositoryError
from headrace.server.repository.source import SourceError
from headrace.server.security.identities import identity_lines
from headrace.server.security.scopes import Scope
from headrace.server.security.tokens import new_token
from headrace.server.settings import Settings
from headrace.server.version import BUILD, VERSION

if TYPE_CHECKING:
    from headrace.server.configuration.configuration import Configuration, ConfiguredModel

USAGE_EXIT_CODE = 2
"""The command cannot run as it was called, configured or installed."""
MODEL_EXIT_CODE = 3
"""An argument names no model, or a model cannot be served."""
INTERRUPTED_EXIT_CODE = 130

app = App(
    name="headrace-server",
    usage="Usage: headrace-server [check] [OPTIONS] [MODEL...]\n       headrace-server token NAME [OPTIONS]",
    help="Serve OpenVINO models over gRPC.",
    help_epilogue="Every option is also an environment variable (HEADRACE_PORT) and a key of [server] in the file.",
    version=f"{VERSION} ({BUILD})",
    result_action="return_value",
)
app.meta.result_action = "return_value"

Models = Annotated[
    str,
    Parameter(
        name="MODEL",
        help="Model file (.xml, .onnx, ...), folder with a model, or folder with a folder for each version; or "
        "NAME=PATH.",
    ),
]


@dataclass(frozen=True)
class Call:
    """What the command line says. `origins` has the flag or the variable of each option that was given."""

    models: tuple[str, ...]
    settings: Settings
    check: bool = False
    json: bool = False
    origins: dict[str, str] = field(default_factory=dict)


@app.default
def serve(
    *models: Models,
    settings: Settings = Settings(),  # noqa: B008 - frozen
) -> Call:
    return Call(models, settings)


@app.command
def check(
    *models: Models,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
) -> Call:
    """Load and try every model, say what is found, and serve nothing."""
    return Call(models, settings, check=True, json=json)


@app.meta.command(help_epilogue="")  # of the outer app, so that it has no options of the server
def token(
    name: Annotated[str, Parameter(name="NAME", help="Name of the identity, such as camera-1.")],
    /,
    *,
    scopes: Annotated[
        tuple[Scope, ...], Parameter(consume_multiple=True, negative="", help="What the identity may do.")
    ] = (Scope.INFER, Scope.METADATA),
    save: Annotated[
        Path | None, Parameter(help="New file for the token, which only this user may read; otherwise it is shown.")
    ] = None,
) -> int:
    """Make a token for an identity, and print what the file of --identities says of it: a hash, and scopes.

    The token itself is shown once, on standard error, so that `>> identities.toml` takes only the rest.
    """
    secret, hashed = new_token()
    if save is None:
        print(f"the token of {name}, which nobody can show again: {secret}", file=sys.stderr)
    else:
        try:
            descriptor = os.open(save, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            print(f"headrace-server: {str(save)!r} cannot be made: {error.strerror}", file=sys.stderr)
            return USAGE_EXIT_CODE
        with open(descriptor, "w") as file:
            file.write(secret + "\n")
    print(identity_lines(name, scopes, hashed), end="")
    return 0


@app.meta.default
def configured(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    file: Annotated[
        Path | None,
        Parameter(
            name="--config",
            env_var="HEADRACE_CONFIG",
            help="TOML file with options and models, or config.json of OpenVINO Model Server.",
        ),
    ] = None,
    lenient: Annotated[
        bool,
        Parameter(
            env_var="HEADRACE_LENIENT",
            negative="",
            help="Warn about what configurations of other servers say and Headrace does not have, and go on.",
        ),
    ] = False,
    print_config: Annotated[
        bool, Parameter(negative="", help="Print all options, and where each came from, as a TOML file; do not serve.")
    ] = False,
) -> int:
    ignore_service_links(os.environ)
    for name in unknown_variables(os.environ):
        print(f"headrace-server: there is no option of the variable {name}; it is ignored", file=sys.stderr)
    origins: dict[str, str] = {}

    def note_origins(_app: App, _commands: tuple[str, ...], arguments: Any) -> None:
        for argument in arguments:
            if argument.tokens and argument.name.startswith("--"):
                option = argument.name.removeprefix("--").replace("-", "_")
                token = argument.tokens[0]
                origins[option] = token.keyword if token.source == "env" else argument.name

    app.config = (config.Env(PREFIX, command=False), note_origins)
    call = app(tokens)
    if not isinstance(call, Call):
        return int(call or 0)
    return _carry_out(call, origins, file, lenient=lenient, print_config=print_config)


def _carry_out(call: Call, origins: dict[str, str], file: Path | None, *, lenient: bool, print_config: bool) -> int:
    # Here, because they need the extra.
    from headrace.server.configuration.configuration import read_configuration
    from headrace.server.configuration.printing import as_toml
    from headrace.server.configuration.problems import ConfigurationError

    try:
        configuration = read_configuration(file, call.settings, origins, lenient=lenient)
        models = configuration.models(call.models, repository=bool(configuration.settings.repository))
        if print_config:
            models += [model for each in configuration.settings.repository for model in configuration.models_in(each)]
    except ConfigurationError as error:
        for line in str(error).splitlines():
            print(f"headrace-server: {line}", file=sys.stderr)
        return USAGE_EXIT_CODE
    except SourceError as error:
        print(f"headrace-server: {error}", file=sys.stderr)
        return MODEL_EXIT_CODE
    except OSError as error:
        print(f"headrace-server: repository {error.filename!r} cannot be read: {error.strerror}", file=sys.stderr)
        return MODEL_EXIT_CODE
    if print_config:
        print(as_toml(configuration, models), end="")
        return 0
    settings = configuration.settings
    if not models and not settings.repository:
        print("headrace-server: give a MODEL, a --repository, or a --config file with [models.NAME]", file=sys.stderr)
        return USAGE_EXIT_CODE
    disk = disk_of(configuration, models)
    settings = replace(settings, share="on" if configuration.shares else "off")
    if call.check:
        return _check(disk, settings, as_json=call.json)
    if settings.workers > 1:
        if settings.host.startswith("unix") or settings.state == "sequence":
            why = "a socket of --host cannot be shared; give an address"
            if settings.state == "sequence":
                why = "not with --state=sequence: requests of one could come to different workers"
            print(f"headrace-server: --workers: {why}", file=sys.stderr)
            return USAGE_EXIT_CODE
        from headrace.server.workers.supervisor import supervise

        return supervise(disk, settings)
    from headrace.server.server import run

    return run(disk, settings)


def configured_models(words: Sequence[str], file: Path | None) -> tuple[Configuration, Sequence[ConfiguredModel]]:
    """What a command line says together with a file, for programs: without environment variables, without printing.

    Raises CycloptsError, ConfigurationError, SourceError and OSError.
    """
    from headrace.server.configuration.configuration import read_configuration

    origins: dict[str, str] = {}

    def note_origins(_app: App, _commands: tuple[str, ...], arguments: Any) -> None:
        given = [each.name for each in arguments if each.tokens and each.name.startswith("--")]
        origins.update((name.removeprefix("--").replace("-", "_"), name) for name in given)

    app.config = (note_origins,)
    call = app(list(words), exit_on_error=False, print_error=False)
    assert isinstance(call, Call)
    configuration = read_configuration(file, call.settings, origins, lenient=False)
    return configuration, configuration.models(call.models, repository=bool(configuration.settings.repository))


def disk_of(configuration: Configuration, models: Sequence[ConfiguredModel]) -> Disk:
    """Where the models are that a configuration names."""
    return Disk(
        [model.source for model in models],
        configuration.settings.repository,
        configuration.configure,
        follow_links=configuration.settings.follow_links,
        configured=configuration.origins_of_models,
    )


def _check(disk: Disk, settings: Settings, *, as_json: bool) -> int:
    from headrace.server.checking import check_models
    from headrace.server.loading.cache import Cache

    try:
        cache = Cache(settings.cache_dir) if settings.cache_dir is not None else None
    except OSError as error:
        print(f"headrace-server: --cache-dir {str(settings.cache_dir)!r}: {error.strerror}", file=sys.stderr)
        return USAGE_EXIT_CODE
    try:
        return 0 if check_models(disk, cache, settings.load_timeout, as_json=as_json) else MODEL_EXIT_CODE
    except UnreadableRepositoryError as error:
        print(f"headrace-server: {error}", file=sys.stderr)
        return MODEL_EXIT_CODE


def main() -> None:
    try:
        if find_spec("openvino") is None:
            print("headrace-server needs its extra. Install it with: pip install 'headrace[server]'", file=sys.stderr)
            sys.exit(USAGE_EXIT_CODE)
        sys.exit(app.meta())
    except KeyboardInterrupt:  # before the server takes signals, while the runtime is imported
        sys.exit(INTERRUPTED_EXIT_CODE)
