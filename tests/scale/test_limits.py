"""What workers have together: who may call, changes on disk, memory of models; and what they do not have."""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as op

from headrace.client import Unauthenticated, blocking
from headrace.server.security.scopes import Scope
from tests import models
from tests.e2e.authority import Authority
from tests.e2e.operating import Operator
from tests.e2e.people import People
from tests.e2e.serving import Serve, run_server
from tests.e2e.test_tls import TAKEN, shown_number
from tests.scale.processes import pids_of, wait_until

CONNECTIONS = 6
MIB = 1 << 20


def test_identities_are_read_again_by_all_workers(serve: Serve, tmp_path: Path) -> None:
    people = People(tmp_path / "identities.toml")
    people.add("root", *Scope)
    served = serve(f"scale={models.scale(tmp_path)}", "--workers=2", f"--identities={people.file}")
    with ExitStack() as stack:
        servers = [
            stack.enter_context(blocking.connect(served.address, token=people.tokens["root"], plain_token=True))
            for _ in range(CONNECTIONS)
        ]
        for server in servers:
            assert server.models()
        token = people.tokens["root"]
        people.remove("root")
        served.wait_until_logged("the identities have been read again", 3)
        for server in servers:
            try:
                server.models()
            except Unauthenticated:
                continue
            raise AssertionError(f"{token[:4]}... is still known")


def test_certificates_are_replaced_in_all_workers(serve: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    served = serve(f"scale={models.scale(tmp_path)}", "--workers=2", *authority.options("server", "127.0.0.1"))
    before = shown_number(served.address, authority.file)
    authority.issue("server", "127.0.0.1")
    served.wait_until_logged(TAKEN, 3)  # by the parent, and by each worker
    shown = {shown_number(served.address, authority.file) for _ in range(CONNECTIONS)}
    assert len(shown) == 1
    assert before not in shown
    with blocking.connect(served.address, tls=authority.file) as server:
        assert server.infer("scale", {"x": np.ones(1, np.float32)})["y"].tolist() == [3]


def test_changes_on_disk_are_followed_by_all_workers(serve: Serve, repository: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        source = models.plus(tmp_path, number)
        folder = tmp_path / f"version{number}"
        folder.mkdir()
        for suffix in (".xml", ".bin"):
            shutil.copy(source.with_suffix(suffix), folder / f"model{suffix}")
    shutil.copytree(tmp_path / "version1", repository / "m" / "1")
    served = serve(f"--repository={repository}", "--watch", "--workers=2")
    with ExitStack() as stack:
        operators = [Operator(served.address) for _ in range(CONNECTIONS)]
        for each in operators:
            stack.enter_context(each.channel)
        assert {tuple(each.index(ready=True)) for each in operators} == {(("m", "1", "READY", ""),)}
        shutil.copytree(tmp_path / "version2", repository / "m" / "2")
        wait_until(lambda: operators[0].index(ready=True) == [("m", "2", "READY", "")], "followed")
        assert {tuple(each.index(ready=True)) for each in operators} == {(("m", "2", "READY", ""),)}


def test_the_file_of_a_models_weights_is_in_memory_once(serve: Serve, tmp_path: Path) -> None:
    path = large(tmp_path)
    served = serve(f"large={path}", "--workers=2")
    x = np.ones((1, 1024), np.float32)
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            server = stack.enter_context(blocking.connect(served.address))
            assert server.infer("large", {"x": x})["y"].shape == (1, 1024)
    mapped = [mapping(pid, path.with_suffix(".bin").name) for pid in pids_of(served.process.pid)]
    print("\nresident and proportional MiB of the weights, each worker:", [(a // MIB, b // MIB) for a, b in mapped])
    size = path.with_suffix(".bin").stat().st_size
    assert sum(proportional for _, proportional in mapped) <= size


def large(folder: Path) -> Path:
    """x: f32[?,1024] -> y: f32[?,1024], the product with sixteen matrices of 4 MiB."""
    random = np.random.default_rng(0)
    x = op.parameter([-1, 1024], ov.Type.f32, name="x")
    x.output(0).set_names({"x"})
    node: ov.Node = x
    for _ in range(16):
        node = op.matmul(node, op.constant(random.normal(0, 0.03, (1024, 1024)).astype(np.float32)), False, True)
    node.output(0).set_names({"y"})
    ov.save_model(ov.Model([node], [x], "large"), folder / "large.xml", compress_to_fp16=False)
    return folder / "large.xml"


def mapping(pid: int, name: str) -> tuple[int, int]:
    """Resident and proportional bytes of the mappings of a file."""
    resident = proportional = 0
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(name)
        elif inside and line.startswith("Rss:"):
            resident += int(line.split()[1]) * 1024
        elif inside and line.startswith("Pss:"):
            proportional += int(line.split()[1]) * 1024
    return resident, proportional


def test_sequences_are_refused_since_a_worker_does_not_have_those_of_others(tmp_path: Path) -> None:
    counter = models.counter(tmp_path)
    ended = run_server(f"counter={counter}", "--port=0", "--workers=2", "--state=sequence")
    assert ended.returncode == 2
    assert "--workers" in ended.stderr
    configuration = tmp_path / "headrace.toml"
    configuration.write_text(f'[models.counter]\npath = "{counter}"\nstate = "sequence"\n')
    ended = run_server(f"--config={configuration}", "--port=0", "--workers=2")
    assert ended.returncode == 3
    assert "sequences are not served by several workers" in ended.stderr
