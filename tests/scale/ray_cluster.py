"""A cluster of Ray on this machine: a head, which has HAProxy, and further nodes, with replicas of the server."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from urllib.request import urlopen

import yaml

from tests.e2e.pair import free_port
from tests.scale.proxied import SECONDS, processor_seconds
from tests.waiting import until

GUIDE = Path(__file__).parents[2] / "docs/guide/ray.md"
BIN = Path(sys.prefix) / "ray/bin"
"""Of the environment that has Ray, beside that of the tests: `make .venv/.ray`."""
STARTING = 240.0
"""Seconds for a cluster to start, and to load and try its models."""


class Cluster:
    """`with Cluster(models, 3) as cluster`: all replicas serve at `target`. Replicas are spread over two nodes.

    `env` are further variables of all processes, `args` further options of the servers.
    """

    def __init__(
        self, models: Sequence[str], replicas: int, env: Mapping[str, str] | None = None, **args: object
    ) -> None:
        # Paths of sockets are short, and Ray's are long.
        self.folder = Path(tempfile.mkdtemp(prefix="ray"))
        self.port, self.fallback_port, self.stats_port, self.metrics_port = (free_port() for _ in range(4))
        self.target = f"127.0.0.1:{self.port}"
        self._gcs = f"127.0.0.1:{free_port()}"
        self._args = {"property": ["INFERENCE_PRECISION_HINT=f32"], "cache_dir": f"{self.folder}/cache", **args}
        self._args["models"] = list(models)
        self.replicas = replicas
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(self.folder),
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(__file__).parents[2] / "deploy/ray/haproxy"),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(self.stats_port),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(self.metrics_port),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(self.fallback_port),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{self.folder}/h/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{self.folder}/h/admin.sock",
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{self.folder}/h/metrics.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": f"{self.folder}/h",
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{self.folder}/h/server-state",
            "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
            **(env or {}),
        }
        self.nodes: list[subprocess.Popen[bytes]] = []

    def deploy(self, replicas: int, scaling: Mapping[str, object] | None = None, **args: object) -> None:
        """What is in the guide, with these models, ports and numbers. Returns when Ray has it.

        `scaling` changes how it is scaled; without it there are as many `replicas`. `args` of the servers
        change to these, and stay so.
        """
        text = GUIDE.read_text().partition("```yaml\n")[2].partition("```")[0]
        found = yaml.safe_load(text)
        found["proxy_location"] = "HeadOnly"
        found["http_options"] = {"host": "127.0.0.1", "port": free_port()}
        found["grpc_options"]["port"] = self.port
        (application,) = found["applications"]
        self._args |= args
        application["args"] |= self._args
        (deployment,) = application["deployments"]
        deployment |= {"max_replicas_per_node": 2, "ray_actor_options": {"num_cpus": 1}}
        if scaling is None:
            del deployment["autoscaling_config"]
            deployment["num_replicas"] = replicas
        else:
            deployment["autoscaling_config"] |= scaling
        file = self.folder / "headrace.yaml"
        file.write_text(yaml.safe_dump(found))
        self._run("serve", "run", "--non-blocking", str(file))

    def python(self, code: str) -> str:
        """What this prints in the environment that has Ray, as a client of the cluster if it calls `ray.init`."""
        return self._run("python", "-c", code)

    def status(self) -> tuple[str, str]:
        """What Ray says of the application: a word, and a message."""
        code = "import json, ray; from ray import serve; ray.init(log_to_driver=False, logging_level='error')\n"
        code += (
            "found = serve.status().applications['headrace']; print(json.dumps([found.status.value, found.message]))"
        )
        word, message = json.loads(self.python(code).splitlines()[-1])
        return word, message

    def up(self) -> int:
        """How many replicas HAProxy sends streams to."""
        with urlopen(f"http://127.0.0.1:{self.stats_port}/stats;csv", timeout=10) as answer:
            lines = answer.read().decode().removeprefix("# ").splitlines()
        rows = [row for row in csv.DictReader(lines) if row["pxname"] == "grpc-headrace"]
        return sum(row["svname"].startswith("SERVE_REPLICA") and row["status"].startswith("UP") for row in rows)

    def wait_until_up(self, count: int, seconds: float = SECONDS) -> None:
        found = -1

        def look() -> bool:
            nonlocal found
            with suppress(OSError):
                found = self.up()
            return found == count

        until(look, lambda: f"{found} replicas are up, not {count}\n{self.log()}", seconds)

    def pids(self, title: str, node: int | None = None) -> list[int]:
        """The processes of a node, or of all, whose command line contains this."""
        roots = [each.pid for each in (self.nodes if node is None else [self.nodes[node]])]
        return [pid for pid in descendants(roots) if title in command_of(pid)]

    def replica_pids(self, node: int | None = None) -> list[int]:
        return self.pids("ray::ServeReplica", node)

    def processor_seconds(self) -> tuple[float, float]:
        """Those of all replicas, and those of HAProxy."""
        replicas = sum(map(processor_seconds, self.replica_pids()))
        return replicas, sum(map(processor_seconds, self.pids("bin/haproxy")))

    def kill_node(self, node: int) -> None:
        """As when its machine dies: all its processes at once."""
        for pid in [self.nodes[node].pid, *descendants([self.nodes[node].pid])]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.nodes[node].wait()

    def log(self) -> str:
        """The end of what the nodes and the replicas say."""
        files = [*self.folder.glob("node-*.log"), *self.folder.glob("ray/session_latest/logs/serve/*.log")]
        return "\n".join(f"== {file}\n{file.read_text()[-3000:]}" for file in files)

    def start_node(self) -> None:
        """The first one is the head."""
        port = self._gcs.rpartition(":")[2]
        where = [f"--address={self._gcs}"]
        if not self.nodes:
            where = ["--head", f"--port={port}", "--include-dashboard=false"]
        command = [str(BIN / "ray"), "start", "--block", "--num-cpus=2", *where]
        command += ["--object-store-memory=100000000", "--dashboard-agent-listen-port=0", "--disable-usage-stats"]
        log = self.folder / f"node-{len(self.nodes)}.log"
        with log.open("wb") as file:
            node = subprocess.Popen(command, stdout=file, stderr=file, env=self._env, process_group=0)
        self.nodes.append(node)
        until(lambda: "runtime started" in log.read_text() or node.poll() is not None, log.read_text, STARTING)
        assert node.poll() is None, log.read_text()

    def _run(self, *command: str) -> str:
        env = {**self._env, "RAY_ADDRESS": self._gcs}
        done = subprocess.run(
            [BIN / command[0], *command[1:]], env=env, capture_output=True, text=True, timeout=STARTING, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def __enter__(self) -> Cluster:
        try:
            self.start_node()
            self.start_node()
            self.deploy(self.replicas)
            self.wait_until_up(self.replicas, STARTING)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in reversed(range(len(self.nodes))):
            if self.nodes[node].poll() is None:
                self.kill_node(node)
        shutil.rmtree(self.folder, ignore_errors=True)


def descendants(roots: Sequence[int]) -> list[int]:
    """The processes that these have started, and those that those have."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, new = [], list(roots)
    while new:
        new = [pid for pid, parent in parents.items() if parent in new]
        found += new
    return found


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def listening(port: int) -> set[str]:
    """The addresses on which somebody listens to a port, as the kernel writes them."""
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    found = [line.split()[1].split(":") for line in lines if line.split()[3] == "0A"]
    return {address for address, number in found if int(number, 16) == port}


def resident_bytes(pid: int) -> int:
    """The memory that a process has of its own."""
    _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
