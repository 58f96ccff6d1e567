"""The experiments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.soak.bad_peers import bad_peers
from tests.soak.calls import calls
from tests.soak.clients import clients
from tests.soak.findings import Findings
from tests.soak.growth import growth, planted_leak
from tests.soak.many_streams import many_streams
from tests.soak.mutations import mutations
from tests.soak.reloads import reloads
from tests.soak.restarts import restarts
from tests.soak.rolling import rolling_envoy, rolling_ray, rolling_workers
from tests.soak.setting import Setting


@dataclass(frozen=True, slots=True)
class Experiment:
    """`group` is the target of the Makefile that runs it."""

    name: str
    group: str
    title: str
    run: Callable[[Setting], Findings]


EXPERIMENTS = [
    Experiment("mutations", "soak", "1 M requests that may be anything, on both fronts, are answered", mutations),
    Experiment("growth", "soak", "5 M inferences by 50,000 streams leave nothing in memory", growth),
    Experiment("planted-leak", "soak", "4 KiB that each of 5,000 streams leaks are found", planted_leak),
    Experiment("calls", "soak", "1 M calls of every kind that end in every way leave nothing", calls),
    Experiment("reloads", "soak", "300 versions of a model replace each other under load", reloads),
    Experiment("clients", "chaos", "10,000 clients that are killed, reset, expire or cancel leave nothing", clients),
    Experiment("many-streams", "chaos", "1,000 streams at once get the same number of answers", many_streams),
    Experiment(
        "bad-peers", "chaos", "100 clients that write too fast and 100 that never read hold up nobody", bad_peers
    ),
    Experiment("restarts", "chaos", "60 restarts of two servers under load lose nothing of resuming clients", restarts),
    Experiment(
        "rolling-workers", "rolling", "10 rolling restarts of workers and parents lose nothing", rolling_workers
    ),
    Experiment(
        "rolling-envoy", "rolling", "10 rolling restarts of three servers and Envoy lose nothing", rolling_envoy
    ),
    Experiment("rolling-ray", "rolling", "10 rolling restarts of Ray's replicas lose nothing", rolling_ray),
]
