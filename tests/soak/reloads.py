"""Versions alternate under load: no answer is wrong, none is missing, and the memory of old versions is freed."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from headrace.client import blocking
from headrace.oip import open_inference_pb2 as oip
from tests.e2e.live import Live, version
from tests.e2e.operating import Operator
from tests.soak.findings import Findings
from tests.soak.setting import Setting

RELOADS, USERS = 300, 20
GROWTH_MIB = 32
MIB = 1 << 20


class User:
    """Asks by one of the two protocols until told to stop: each answer is one of the version that serves or served."""

    def __init__(self, address: str, number: int) -> None:
        self.answers = 0
        self._address, self._number = address, number

    def use(self, end: threading.Event) -> None:
        (self._use_oip if self._number % 2 else self._use_native)(end)

    def _use_oip(self, end: threading.Event) -> None:
        operator = Operator(self._address)
        with operator.channel:
            while not end.is_set():
                x = np.full(1 + self._number, self.answers % 1000, np.float32)
                tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=x.shape)
                request = oip.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[x.tobytes()])
                response = operator.stub.ModelInfer(request, timeout=30)
                plus = 1 + int(response.model_version) % 2
                assert response.raw_output_contents[0] == (x + plus).tobytes()
                self.answers += 1

    def _use_native(self, end: threading.Event) -> None:
        with blocking.connect(self._address) as server, server.stream() as stream:
            while not end.is_set():
                x = np.full(1 + self._number, self.answers % 1000, np.float32)
                for ticket in [stream.submit("m", {"x": x}) for _ in range(4)]:
                    plus = ticket.result(30)["y"] - x
                    assert plus.tolist() in ([1.0] * len(x), [2.0] * len(x))
                    self.answers += 1


def reloads(setting: Setting) -> Findings:
    repository = setting.folder / "models"
    (repository / "m").mkdir(parents=True)
    # Copies, so that each of the two is tried only once, before there is any load.
    two = [version(setting.folder, "two", number) for number in (1, 2)]
    shutil.copytree(two[0], repository / "m" / "2")
    with setting.serving(f"--repository={repository}", "--model-control") as served:
        shutil.copytree(two[1], repository / "m" / "3")
        shutil.rmtree(repository / "m" / "2")
        house = Live(served)
        house.operator.load("m")
        try:
            return alternate(house, two, repository, setting.of(RELOADS))
        finally:
            house.close()


def alternate(house: Live, two: list[Path], repository: Path, count: int) -> Findings:
    findings, end = Findings(), threading.Event()
    users = [User(house.served.address, number) for number in range(USERS)]
    resident: list[int] = []
    with ThreadPoolExecutor(len(users)) as pool:
        uses = [pool.submit(user.use, end) for user in users]
        try:
            for number in range(4, count + 4):
                shutil.copytree(two[number % 2], repository / "m" / str(number))
                shutil.rmtree(repository / "m" / str(number - 1))
                house.operator.load("m")
                assert house.index() == {f"m/{number}": "READY"}
                resident.append(house.served.resident_bytes())
                assert not any(use.done() for use in uses)
        finally:
            end.set()
        for use in uses:
            use.result(60)
    quarter = len(resident) // 4
    grown = max(resident[-quarter:]) - max(resident[quarter : 2 * quarter])
    findings.equal("versions loaded, each in place of the one before", len(resident), count)
    findings.count("right answers", sum(user.answers for user in users))
    findings.at_least("  fewest of one of 20 clients", min(user.answers for user in users), count)
    findings.count("memory in the second quarter", max(resident[quarter : 2 * quarter]) / MIB, "MiB")
    findings.below("  more in the last quarter", grown / MIB, GROWTH_MIB, "MiB")
    return findings
