"""Workers answer as one server, whichever of them a client has got."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing import shared_memory
from pathlib import Path

import grpc
import numpy as np
import pytest

from headrace.client import blocking
from headrace.oip import open_inference_pb2 as pb
from tests import models
from tests.e2e.operating import Operator, refused
from tests.e2e.scraping import METRICS, Scraped, get
from tests.e2e.serving import Serve, Served
from tests.scale.processes import pids_of, wait_until

CONNECTIONS = 8
"""As many leave one of two workers without any in one case of 128; then the others are only asked through it."""
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("workers")
    repository = folder / "repository"
    for name in ("am", "scale"):
        build = models.add_multiply if name == "am" else models.scale
        path = build(folder)
        target = repository / name / "1"
        target.mkdir(parents=True)
        for suffix in (".xml", ".bin"):
            path.with_suffix(suffix).rename(target / f"model{suffix}")
    arguments = ["--workers=2", "--model-control", "--shared-memory", "--metrics-port=0", f"--repository={repository}"]
    with Served(arguments, folder / "log") as served:
        yield served
        assert served.stop() == 0, served.log


@pytest.fixture
def operators(served: Served) -> Iterator[list[Operator]]:
    with ExitStack() as stack:
        operators = [Operator(served.address) for _ in range(CONNECTIONS)]
        for each in operators:
            stack.enter_context(each.channel)
        yield operators


def infer(operator: Operator, value: float, model: str = "scale") -> float:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=[2])
    request.raw_input_contents.append(np.full(2, value, np.float32).tobytes())
    answer = operator.stub.ModelInfer(request, timeout=60)
    return float(np.frombuffer(answer.raw_output_contents[0], np.float32)[0])


def inferences(operator: Operator, model: str = "scale") -> int:
    (found,) = operator.stub.ModelStatistics(pb.ModelStatisticsRequest(name=model), timeout=60).model_stats
    count: int = found.inference_count
    assert found.inference_stats.success.count == count
    assert sum(batch.compute_infer.count * batch.batch_size for batch in found.batch_stats) == count
    return count


def test_statistics_and_status_are_of_all_workers(served: Served, operators: list[Operator]) -> None:
    before = inferences(operators[0])
    for value, operator in enumerate(operators):
        for _ in range(3):
            assert infer(operator, value) == 2 * value + 1
    assert {inferences(each) - before for each in operators} == {3 * CONNECTIONS}
    statuses = []
    for _ in range(3):
        with blocking.connect(served.address) as server:
            statuses.append(server.status())
    for status in statuses:
        assert [each.number for each in status.workers] == [1, 2]
        assert not any(each.problem for each in status.workers)
        (scale,) = [each for each in status.models if each.name == "scale"]
        assert scale.inferences - before == 3 * CONNECTIONS
        assert sum(each.inferences for each in status.workers) == sum(each.inferences for each in status.models)
        assert status.resident_bytes == sum(each.resident_bytes for each in status.workers)
        assert sum(scale.durations.counts) == scale.inferences


def test_a_model_is_unloaded_and_loaded_in_all_workers(served: Served, operators: list[Operator]) -> None:
    first, *others = operators
    for time in range(2):
        operators[time].unload("am")
        for each in operators:
            assert [state for name, _, state, _ in each.index() if name == "am"] == ["UNAVAILABLE"]
            assert not each.stub.ModelReady(pb.ModelReadyRequest(name="am")).ready
            assert "am" not in [name for name, *_ in each.index(ready=True)]
        others[time].load("am")
        for each in operators:
            assert each.index() == [("am", "1", "READY", ""), ("scale", "1", "READY", "")]
            assert each.stub.ModelReady(pb.ModelReadyRequest(name="am")).ready
    with refused(Code.NOT_FOUND, "nothing"):
        first.load("nothing")
    with refused(Code.NOT_FOUND, "nothing"):
        first.unload("nothing")


def test_the_log_level_is_changed_in_all_workers(operators: list[Operator]) -> None:
    assert operators[1].log(log_info=False)["log_info"] is False
    assert [each.log()["log_info"] for each in operators] == [False] * CONNECTIONS
    operators[2].log(log_info=True)
    assert [each.log()["log_info"] for each in operators] == [True] * CONNECTIONS


def test_shared_memory_is_registered_in_all_workers_and_in_one_that_is_replaced(
    served: Served, operators: list[Operator]
) -> None:
    first, *others = operators
    memory = shared_memory.SharedMemory(create=True, size=64)
    try:
        register = pb.SystemSharedMemoryRegisterRequest(name="region", key=memory.name, byte_size=64)
        first.stub.SystemSharedMemoryRegister(register, timeout=60)
        with refused(Code.FAILED_PRECONDITION, "already registered"):
            others[0].stub.SystemSharedMemoryRegister(register, timeout=60)
        assert memory.buf is not None
        memory.buf[:8] = np.array([3, 4], np.float32).tobytes()
        assert [from_region(each) for each in operators] == [7.0] * CONNECTIONS

        others[1].unload("am")
        others[2].log(log_warning=False)
        replaced = served.log.count(" is back")
        os.kill(pids_of(served.process.pid)[0], signal.SIGKILL)
        wait_until(lambda: served.log.count(" is back") > replaced, "replaced")
        with ExitStack() as stack:
            later = [Operator(served.address) for _ in range(CONNECTIONS)]
            for each in later:
                stack.enter_context(each.channel)
            assert [from_region(each) for each in later] == [7.0] * CONNECTIONS
            assert [each.log()["log_warning"] for each in later] == [False] * CONNECTIONS
            assert [each.index(ready=True) for each in later] == [[("scale", "1", "READY", "")]] * CONNECTIONS
            later[0].load("am")
            later[0].log(log_info=True)
            later[1].stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name="region"))
            for each in later:
                with refused(Code.NOT_FOUND, "region"):
                    from_region(each)
    finally:
        memory.close()
        memory.unlink()


def from_region(operator: Operator) -> float:
    """Twice the first number of the region, and 1."""
    request = pb.ModelInferRequest(model_name="scale")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[2])
    tensor.parameters["shared_memory_region"].string_param = "region"
    tensor.parameters["shared_memory_byte_size"].int64_param = 8
    answer = operator.stub.ModelInfer(request, timeout=60)
    return float(np.frombuffer(answer.raw_output_contents[0], np.float32)[0])


def test_metrics_are_sums_that_do_not_go_back_when_a_worker_ends(served: Served, operators: list[Operator]) -> None:
    match = next(filter(None, map(METRICS.fullmatch, served.printed)))

    def scraped() -> Scraped:
        answer = get(f"{match[1]}/metrics")
        assert answer.status == 200
        return Scraped(answer.text)

    for value, operator in enumerate(operators):
        infer(operator, value)
    before = scraped()
    done = before("headrace_requests_total", model="scale", outcome="done")
    assert done == inferences_of(before)
    assert before.by("headrace_workers", "state") == {("answering",): 2}
    assert before("headrace_ready") == 1
    os.kill(pids_of(served.process.pid)[-1], signal.SIGKILL)
    ended = scraped()
    assert ended("headrace_requests_total", model="scale", outcome="done") >= done
    assert get(f"{match[1]}/readyz").status == 200
    wait_until(lambda: scraped().by("headrace_workers", "state") == {("answering",): 2}, "replaced")
    after = scraped()
    assert after("headrace_requests_total", model="scale", outcome="done") >= done
    assert after("headrace_request_duration_seconds_count", model="scale") >= done
    assert after("headrace_workers_replaced_total") == before("headrace_workers_replaced_total") + 1
    assert len(after.labels("headrace_worker_resident_bytes")) == 2


def inferences_of(scraped: Scraped) -> float:
    return scraped("headrace_request_duration_seconds_count", model="scale")


@pytest.mark.skipif(sys.platform != "linux", reason="a process is stopped as Linux does it")
def test_a_worker_that_does_not_answer_is_named(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"scale={models.scale(tmp_path)}", "--workers=2", "--model-control")
    second = pids_of(served.process.pid)[1]
    os.kill(second, signal.SIGSTOP)
    try:
        for _ in range(20):
            try:
                with blocking.connect(served.address, timeout=2) as server:
                    status = server.status(timeout=30)
            except blocking.HeadraceError:  # the kernel has given the connection to the one that is stopped
                continue
            assert [each.number for each in status.workers] == [1, 2]
            assert not status.workers[0].problem
            assert re.search(r"has not answered for \d", status.workers[1].problem)
            break
        else:
            pytest.fail("20 connections have all come to one of two workers")
    finally:
        os.kill(second, signal.SIGCONT)
