"""Ten rolling restarts of everything, under load: workers and their parents, servers and Envoy, replicas of Ray."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle

import grpc
import grpc.aio

import headrace.client as hc
from tests import models
from tests.scale.lone_calls import OPTIONS
from tests.scale.processes import lives, pids_of, wait_until
from tests.scale.proxied import SECONDS, Envoy, Servers
from tests.scale.ray_cluster import STARTING, Cluster
from tests.scale.rolling import Clients, rolling
from tests.soak.findings import Findings
from tests.soak.setting import Setting

ROUNDS = 10
WORKERS = 2
AGE = "--stream-seconds=10"
"""Streams move, so that the one which is restarted next has some."""
WRONG = "Traceback", "never retrieved", "incident"
"""What no log of a server may have. That a worker was killed is an error."""
Restart = Callable[[], object]


def plain(*addresses: str) -> Clients:
    """Clients that connect to one or several addresses."""
    return Clients(
        lambda: hc.connect(",".join(addresses), connect_timeout=SECONDS),
        lambda: grpc.aio.insecure_channel(f"ipv4:{','.join(addresses)}", OPTIONS),
    )


def by_envoy(envoy: Envoy) -> Clients:
    authority = envoy.authority.file.read_bytes()
    return Clients(
        envoy.connect,
        lambda: grpc.aio.secure_channel(envoy.target, grpc.ssl_channel_credentials(authority), OPTIONS),
    )


@contextmanager
def servers_of(setting: Setting, count: int, *options: str) -> Iterator[Servers]:
    model = f"scale={models.scale(setting.folder)}"
    servers = Servers(setting.folder, count, model, f"--transport={setting.transport}", "--grace=10", *options)
    try:
        yield servers
        found = [
            (log.name, wrong) for log in setting.folder.glob("*.log") for wrong in WRONG if wrong in log.read_text()
        ]
        assert not found, found
    finally:
        servers.close()


# ------------------------------------------------------------------------------------------------------------- restarts


def restart_worker(servers: Servers, number: int) -> None:
    """End the worker that is the oldest, and wait until the parent has another one."""
    served = servers.served[0]
    replaced = served.log.count(" is back")
    os.kill(pids_of(served.process.pid)[0], number)
    wait_until(lambda: served.log.count(" is back") > replaced, "replaced")


def restart_server(servers: Servers, index: int, number: int) -> None:
    """End a server, with all its workers, and start it again at its port."""
    process = servers.served[index].process
    workers = pids_of(process.pid)
    process.send_signal(number)
    assert process.wait(SECONDS) == (0 if number == signal.SIGTERM else -number), servers.served[index].log
    wait_until(lambda: not any(map(lives, workers)), "gone")
    servers.start_again(index)


def restart_behind(servers: Servers, envoy: Envoy, index: int, number: int) -> None:
    restart_server(servers, index, number)
    envoy.wait_until_healthy(len(servers.served))


def kill_replica(cluster: Cluster) -> None:
    """Kill the replica that is the oldest, and wait until Ray has another one."""
    victim = min(cluster.replica_pids())
    os.kill(victim, signal.SIGKILL)

    def replaced() -> bool:
        pids = cluster.replica_pids()
        return victim not in pids and len(pids) == cluster.replicas

    wait_until(replaced, "replaced", STARTING)
    cluster.wait_until_up(cluster.replicas, STARTING)


def deploy_again(cluster: Cluster, window: int) -> None:
    """Have all replicas replaced, since something has changed."""
    before = {*cluster.replica_pids()}
    cluster.deploy(cluster.replicas, window=window)
    wait_until(lambda: not before & {*cluster.replica_pids()}, "replaced", STARTING)
    cluster.wait_until_up(cluster.replicas, STARTING)


# ---------------------------------------------------------------------------------------------------------- experiments


def roll_workers(setting: Setting, rounds: int, findings: Findings) -> None:
    """Each worker of a server, and then the server itself, which clients find again at the same port."""
    with servers_of(setting, 1, f"--workers={WORKERS}", AGE) as servers:
        signals = ends()
        restarts: list[Restart] = []
        for _ in range(rounds):
            restarts += [partial(restart_worker, servers, next(signals)) for _ in range(WORKERS)]
            restarts.append(partial(restart_server, servers, 0, next(signals)))
        clients = plain(f"127.0.0.1:{servers.ports[0]}")
        asyncio.run(rolling(clients, restarts, findings, f"{WORKERS} workers and their parent"))


def roll_pair(setting: Setting, rounds: int, findings: Findings) -> None:
    """Two servers with workers, by turns. Clients know the addresses of both."""
    with servers_of(setting, 2, f"--workers={WORKERS}", AGE) as servers:
        signals = ends()
        restarts = [partial(restart_server, servers, index, next(signals)) for _ in range(rounds) for index in range(2)]
        clients = plain(*[f"127.0.0.1:{port}" for port in servers.ports])
        asyncio.run(rolling(clients, restarts, findings, "two servers with workers"))


def roll_envoy(servers: Servers, envoy: Envoy, rounds: int, findings: Findings) -> None:
    """Each server, and then Envoy itself."""
    signals = ends()
    restarts: list[Restart] = []
    for _ in range(rounds):
        restarts += [
            partial(restart_behind, servers, envoy, index, next(signals)) for index in range(len(servers.served))
        ]
        restarts.append(partial(envoy.restart, next(signals)))
    asyncio.run(rolling(by_envoy(envoy), restarts, findings, f"{len(servers.served)} servers and Envoy"))


def roll_ray(cluster: Cluster, kills: int, deployments: Sequence[int], findings: Findings) -> None:
    """Replicas that are killed, and then deployments, each with another window."""
    restarts: list[Restart] = [partial(kill_replica, cluster) for _ in range(kills)]
    restarts += [partial(deploy_again, cluster, window) for window in deployments]
    name = f"{cluster.replicas} replicas, {kills} killed and {len(deployments)} times deployed"
    asyncio.run(rolling(plain(cluster.target), restarts, findings, name))


def ends() -> Iterator[int]:
    """The signals, by turns."""
    return cycle([signal.SIGTERM, signal.SIGKILL])


def rolling_workers(setting: Setting) -> Findings:
    findings = Findings()
    roll_workers(setting, setting.of(ROUNDS), findings)
    roll_pair(setting, setting.of(ROUNDS), findings)
    return findings


def rolling_envoy(setting: Setting) -> Findings:
    findings = Findings()
    with (
        servers_of(setting, 3, "--drain-delay=3") as servers,
        Envoy(setting.folder / "envoy", servers.ports, "tls") as envoy,
    ):
        roll_envoy(servers, envoy, setting.of(ROUNDS), findings)
    return findings


def rolling_ray(setting: Setting) -> Findings:
    findings = Findings()
    model = f"scale={models.scale(setting.folder)}"
    with Cluster([model], 3, drain_delay=1, grace=5) as cluster:
        rounds = setting.of(ROUNDS)
        roll_ray(cluster, rounds, [100 + number for number in range(rounds)], findings)
    return findings
