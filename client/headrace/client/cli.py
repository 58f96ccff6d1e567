"""The `headrace` command: ask a server about its models and its load, run inferences, and mount the load tests."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter, validators
from rich.console import Console

import headrace.client as hc
from headrace.client.load.command import load, report
from headrace.client.terminal.input_arrays import input_arrays
from headrace.client.terminal.json_output import infer_document, models_document, status_document
from headrace.client.terminal.npy_files import save
from headrace.client.terminal.printing import print_table, printable
from headrace.client.terminal.rates import Order
from headrace.client.terminal.server_options import PLAIN, SecurityOptions, Target, connection_settings
from headrace.client.terminal.tables import (
    models_table,
    outputs_table,
    state_lines,
    states_table,
    status_lines,
    status_table,
    variant_lines,
)
from headrace.client.terminal.top import Top
from headrace.client.terminal.top import watch as watch_server
from headrace.client.terminal.usage_error import UsageError
from headrace.client.transport.channel import MAX_GRPC_MESSAGE_BYTES

FAILED, USAGE, INTERRUPTED = 1, 2, 130
"""Exit codes."""

app = App(
    name="headrace",
    help="Talk to a Headrace server.",
    help_epilogue="Exit codes: 1 server or connection error, or a load without any success, 2 wrong arguments, "
    "3 a --fail-if is true, 130 Ctrl-C.",
    help_format="plaintext",
    version=lambda: version("headrace"),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative="", show_default=False),
)


Json = Annotated[bool, Parameter(name="--json", help="Print JSON.")]
Interval = Annotated[
    float, Parameter(help="Seconds between two looks.", validator=validators.Number(gte=0.1, lte=3600))
]


@app.command(help_epilogue="Example: headrace models 127.0.0.1:8001 --load resnet50")
async def models(
    target: Target,
    /,
    *,
    loads: Annotated[
        tuple[str, ...],
        Parameter(name="--load", help="Model to load first, or to load again, from the server's disk. Repeatable."),
    ] = (),
    unloads: Annotated[tuple[str, ...], Parameter(name="--unload", help="Model to unload first. Repeatable.")] = (),
    security: SecurityOptions = PLAIN,
    as_json: Json = False,
) -> None:
    """List the models of a server with their inputs and outputs, and why others do not serve."""
    async with hc.Server(connection_settings(target, security)) as server:
        for name in unloads:
            await server.unload_model(name)
        for name in loads:
            await server.load_model(name)
        found, states = await server.models(), await server.model_states()
    if as_json:
        print_json(models_document(found, states))
        return
    print_table(models_table(found))
    for line in state_lines(found):
        print(line)
    remarkable = [state for state in states if state.state != "READY" or state.reason]
    if remarkable:
        print()
        print_table(states_table(remarkable))


@app.command(help_epilogue="Example: headrace status 127.0.0.1:8001 --watch")
async def status(
    target: Target,
    /,
    *,
    security: SecurityOptions = PLAIN,
    watch: Annotated[bool, Parameter(help="Show it again and again, until Ctrl-C.")] = False,
    interval: Interval = 1.0,
    as_json: Json = False,
) -> None:
    """Show the load of a server at this moment: streams, tickets, bytes, slots."""
    async with hc.Server(connection_settings(target, security)) as server:
        while True:
            start = time.monotonic()
            print_status(await server.status(), target, as_json=as_json, watched=watch)
            if not watch:
                return
            sys.stdout.flush()
            await asyncio.sleep(max(0.0, start + interval - time.monotonic()))


@app.command(help_epilogue="Example: headrace top 127.0.0.1:8001 --sort p99")
async def top(
    target: Target,
    /,
    *,
    security: SecurityOptions = PLAIN,
    sort: Annotated[Order, Parameter(help="What comes first: rate, p99, queue, failures or name.")] = "rate",
    only: Annotated[str, Parameter(name="--filter", help="Only models with this in their name.")] = "",
    interval: Interval = 1.0,
) -> None:
    """Watch models and streams: rates, percentiles, queues, slots and memory, until Ctrl-C."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        raise UsageError("top draws on a terminal; for programs there is: headrace status TARGET --watch --json")
    async with hc.Server(connection_settings(target, security)) as server:
        await server.status()  # a target that is wrong is an error, not a picture
        await watch_server(server, Top(target, sort, only), interval, console)


@app.command(help_epilogue="Example: headrace infer 127.0.0.1:8001 resnet50 --input x=cat.npy --output y")
async def infer(
    target: Target,
    model: Annotated[str, Parameter(name="MODEL", help="Name of the model.")],
    /,
    *,
    inputs: Annotated[
        tuple[str, ...],
        Parameter(
            name="--input",
            help="NAME=VALUE: random, zeros, a .npy file, a .json file, or JSON. Repeatable.",
        ),
    ] = (),
    outputs: Annotated[
        tuple[str, ...],
        Parameter(name=["--outputs", "--output"], consume_multiple=True, help="Outputs to return; default: all."),
    ] = (),
    shapes: Annotated[
        tuple[str, ...],
        Parameter(name="--shape", help="NAME:SIZES for random and zeros; default: the smallest possible. Repeatable."),
    ] = (),
    seed: Annotated[int | None, Parameter(help="Seed for random inputs, to get the same ones each time.")] = None,
    timeout: Annotated[float | None, Parameter(help="Seconds after which the inference fails.")] = None,
    model_version: Annotated[str | None, Parameter(help="Version of the model; default: the newest.")] = None,
    folder: Annotated[Path | None, Parameter(name="--save", help="Folder for the outputs as .npy files.")] = None,
    security: SecurityOptions = PLAIN,
    as_json: Json = False,
) -> None:
    """Run a model once and show its outputs.

    Random numbers lie between 0 and 1, random integers between 0 and 99.
    """
    if folder is not None:
        make_folder(folder)
    async with hc.Server(connection_settings(target, security, MAX_GRPC_MESSAGE_BYTES)) as server:
        described = await server.model(model, model_version)
        arrays = input_arrays(described, inputs, shapes, seed)
        results = await server.infer(model, arrays, outputs=outputs or None, version=described.version, timeout=timeout)
    files = {} if folder is None else save(results, folder)
    if as_json:
        print_json(infer_document(described, results, files))
        return
    print_table(outputs_table(results))
    for name, file in files.items():
        print(f"saved {printable(name)} in {file}")


@app.command(help_epilogue="Example: headrace completion bash > ~/.local/share/bash-completion/completions/headrace")
def completion(
    shell: Annotated[Literal["bash", "fish", "zsh"], Parameter(name="SHELL", help="bash, fish or zsh.")],
    /,
    *,
    install: Annotated[bool, Parameter(help="Put it where the shell finds it, after asking.")] = False,
) -> None:
    """Print the script that completes this command in a shell."""
    if not install:
        print(app.generate_completion(shell=shell))
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "--install asks before it changes files, which takes a terminal; without it the script is printed"
        )
    question = (
        f"Write the script into your home folder, and a line that loads it into the startup file of {shell}? [y/N] "
    )
    try:
        answer = input(question)
    except EOFError:
        answer = ""
        print()
    if answer.strip().lower() not in ("y", "yes"):
        print("nothing was changed")
        return
    print(f"written to {app.install_completion(shell=shell)}")


app.command(
    load,
    help_epilogue="Examples: headrace load 127.0.0.1:8001 resnet50 --rate 50..500/s --record run.jsonl; "
    "headrace load 127.0.0.1:8001 resnet50 --sweep 1,2,4,8",
)
app.command(report, help_epilogue="Example: headrace report run.jsonl --html run.html")


def make_folder(folder: Path) -> None:
    """Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"folder {folder} cannot be created: {error.strerror}") from None


def print_status(status: hc.ServerStatus, target: str, *, as_json: bool, watched: bool) -> None:
    """JSON that is watched is one line each, for programs."""
    if as_json:
        if watched:
            print(json.dumps(status_document(status), allow_nan=False))
        else:
            print_json(status_document(status))
        return
    print(*status_lines(status, target), "", sep="\n")
    print_table(status_table(status))
    for line in variant_lines(status):
        print(line)
    if watched:
        print()


def print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, allow_nan=False, indent=2 if sys.stdout.isatty() else None))


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code. An error is one sentence on standard error."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except hc.HeadraceError as error:
        return fail(f"{error.code.name}: {error.message}", FAILED)
    except (CycloptsError, UsageError) as error:
        return fail(str(error), USAGE)
    except BrokenPipeError:
        # The reader has closed the pipe. Nothing may be written any more, not even when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return fail(str(error), FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


def fail(sentence: str, code: int) -> int:
    """Print an error, and return the exit code."""
    print("headrace:", " ".join(sentence.split()), file=sys.stderr)
    return code


def main() -> None:
    # gRPC's own log is not for users. What they need to know becomes an error.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # typed as TextIO
    sys.exit(run(sys.argv[1:]))
