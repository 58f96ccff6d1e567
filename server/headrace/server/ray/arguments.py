"""What `args` of the application in the YAML file say: the models, and options of the server by name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cyclopts.exceptions import CycloptsError

from headrace.server import cli
from headrace.server.repository.scan import Disk
from headrace.server.settings import Settings

DRAIN_DELAY = 2.0
"""Seconds in which proxies learn that a replica goes, before its streams do, where the option is 0."""
NOT_HERE = {
    **dict.fromkeys(("host", "port"), "Ray gives each replica its port; http_options and grpc_options set that of all"),
    **dict.fromkeys(("tls_cert", "tls_key", "tls_ca"), "clients connect to Ray's proxy, which speaks plain text"),
    **dict.fromkeys(("metrics_port", "metrics_host"), "Ray exports metrics of its own"),
    **dict.fromkeys(("trace_endpoint", "trace_sample"), "Ray has tracing of its own"),
    **dict.fromkeys(("model_control", "watch"), "all replicas must serve the same; deploy again instead"),
    "workers": "each replica is a process; num_replicas says how many there are",
    "shared_memory": "a region is of one machine, and clients do not choose their replica",
}
"""Options that replicas do not have, and why."""


def command_line(args: Mapping[str, Any]) -> Sequence[str]:
    """The arguments that a server on its own would have. Raises ValueError."""
    given, words = dict(args), []
    models = given.pop("models", ())
    for name, value in given.items():
        if (why := NOT_HERE.get(name)) is not None:
            raise ValueError(f"replicas do not have the option {name}: {why}")
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [flag] if value else []
        else:
            words += [f"{flag}={each}" for each in (value if isinstance(value, (list, tuple)) else (value,))]
    return [*words, *([models] if isinstance(models, str) else models)]


def to_serve(args: Mapping[str, Any]) -> tuple[Disk, Settings]:
    """Models and options. Raises ValueError, or what their configuration raises."""
    config = args.get("config")
    words = command_line({name: value for name, value in args.items() if name != "config"})
    try:
        configuration, models = cli.configured_models(words, config)
    except CycloptsError as error:
        raise ValueError(str(error)) from None
    if not models and not configuration.settings.repository:
        raise ValueError("args have neither models nor a repository nor a config with models")
    settings = configuration.settings
    for name in NOT_HERE:  # the file may have them
        if getattr(settings, name) != getattr(Settings(), name):
            raise ValueError(f"replicas do not have the option {name}: {NOT_HERE[name]}")
    settings = replace(
        settings, drain_delay=settings.drain_delay or DRAIN_DELAY, share="on" if configuration.shares else "off"
    )
    return cli.disk_of(configuration, models), settings


def check(args: Mapping[str, Any]) -> None:
    """Load and try every model in a process of its own. Raises ValueError with what is wrong with each."""
    command = [sys.executable, "-m", "headrace.server", "check", "--json", *command_line(args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        try:
            problems = [each["error"] for each in json.loads(done.stdout)["models"] if each["error"]]
        except ValueError:
            problems = [done.stderr.strip() or f"the check ended with {done.returncode}"]
        raise ValueError("not deployed: " + "; ".join(problems))
