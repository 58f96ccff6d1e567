"""`headrace-server check`: loads and tries every model as a server would, and serves nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from time import perf_counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.server.core.specs import Port
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.server.loading.cache import Cache
from headrace.server.loading.loader import Loader
from headrace.server.repository.named import NamedModel
from headrace.server.repository.scan import Disk, FoundModel
from headrace.server.telemetry.logging import start_logging
from headrace.wire.errors import HeadraceError


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found about a version of a model. `error` is for the operator; without one the model can be served."""

    name: str
    version: str
    path: str
    error: str
    seconds: float
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    slots: int = 0
    direct: bool = False
    batch: int = 0
    reasons: str = ""


def check_models(disk: Disk, cache: Cache | None, load_timeout: float, *, as_json: bool) -> bool:
    """Print what is found about every model. Returns whether all of them can be served.

    Raises UnreadableRepositoryError.
    """
    start_logging("warning")
    loader = Loader(engine := OpenVinoEngine(), nullcontext, load_timeout, cache)
    scan = disk.scan()
    checked = [each for found in scan.models.values() for each in _check(found, loader, engine)]
    loader.close()
    engine.close()
    if as_json:
        json.dump({"models": [asdict(each) for each in checked], "remarks": scan.remarks}, sys.stdout, indent=2)
        print()
    else:
        _print(checked, scan.remarks)
    return not any(each.error for each in checked)


def _check(found: FoundModel, loader: Loader, engine: OpenVinoEngine) -> Iterator[Checked]:
    """The versions of a model that the policy chooses."""
    wanted = found.policy.choose(found.versions.keys() | found.problems.keys())
    if found.problem is not None or not wanted:
        yield _failed(found.name, "", "", found.problem or found.nothing_chosen())
    for number in wanted if found.problem is None else ():
        if number in found.problems:
            yield _failed(found.name, str(number), "", found.problems[number])
        else:
            yield _tried(found.versions[number].model, loader, engine)


def _tried(model: NamedModel, loader: Loader, engine: OpenVinoEngine) -> Checked:
    began = perf_counter()
    try:
        spec = loader.load(model)
    except HeadraceError as error:
        return _failed(model.name, model.version, str(model.path), error, perf_counter() - began)
    engine.unload(spec)
    return Checked(
        spec.name,
        spec.version,
        str(model.path),
        "",
        perf_counter() - began,
        _listed(spec.inputs),
        _listed(spec.outputs),
        spec.slots,
        spec.direct,
        spec.batch,
        spec.reasons(),
    )


def _failed(name: str, version: str, path: str, error: Exception, seconds: float = 0.0) -> Checked:
    return Checked(name, version, path, str(error), seconds)


def _listed(ports: Iterable[Port]) -> list[str]:
    return [f"{port.name}: {port}" for port in ports]


def _print(checked: Sequence[Checked], remarks: Iterable[str]) -> None:
    table = Table("model", "version", "", "slots", "runs", "batch", "inputs", "outputs", box=None)
    for each in checked:
        if each.error:
            table.add_row(each.name, each.version, "[red]fails[/red]")
        else:
            how = "direct" if each.direct else "async"
            ports = (Text("\n".join(each.inputs)), Text("\n".join(each.outputs)))  # names may look like markup
            table.add_row(each.name, each.version, "ok", str(each.slots), how, str(each.batch), *ports)
    console = Console()
    console.print(table)
    for each in checked:
        if each.error:
            console.print(each.error, markup=False, highlight=False, soft_wrap=True)
    for remark in remarks:
        console.print(remark, markup=False, highlight=False, soft_wrap=True)
