"""Sequences as tritonclient sends them: calls and streams, numbers and text, many clients at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

import headrace.client.blocking as hc
from tests import stateful_models
from tests.e2e.serving import F32, Serve, Served
from tests.stateful_models import FEATURES, Array, steps
from tests.triton.messages import Input, check_sentence, given, refused, request
from tests.triton.streams import CallbackStream, RawStream

CLIENTS, STEPS = 64, 12
VALUES = (11, 7, 5, 3, 2, 0, 1)
ONE = np.ones(2, np.float32)
BEGIN = "begin a new one with sequence_start"


@pytest.fixture(scope="module")
def stateful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that keeps the state of `sum`, `lstm`, `speech`, and of `accumulate`: INPUT -> OUTPUT."""
    folder = tmp_path_factory.mktemp("stateful")
    paths = [stateful_models.sum_from(folder), stateful_models.lstm(folder, 1), stateful_models.speech(folder)]
    accumulate = stateful_models.named(folder, "total", "INPUT", "OUTPUT")
    with Served([*map(str, paths), f"accumulate={accumulate}", "--state=sequence", F32], folder / "log") as server:
        yield server
        assert server.stop() == 0
        assert " ERROR " not in server.log, server.log


@pytest.fixture
def client(stateful: Served) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(stateful.address) as client:
        yield client


def call(client: InferenceServerClient, sequence: int | str, value: float = 1, flags: str = "") -> float:
    """One step of `sum` by a call. Returns the sum."""
    x = np.full(2, value, np.float32)
    start, end = "start" in flags, "end" in flags
    result = client.infer("sum", [given("x", x)], sequence_id=sequence, sequence_start=start, sequence_end=end)
    return float(result.as_numpy("y")[0])


@pytest.mark.parametrize("sequences", [(1000, 1001), ("one", "two"), (7, "7"), ((1 << 63) - 1, 1)])
def test_tritons_example_of_a_stream(client: InferenceServerClient, sequences: tuple[int | str, int | str]) -> None:
    """simple_grpc_sequence_stream_infer_client: two sequences by turns, of values and of their negatives."""
    with CallbackStream(client) as stream:
        for number, value in enumerate(VALUES):
            for sequence, sign in zip(sequences, (1, -1), strict=True):
                stream.send(
                    "accumulate",
                    [given("INPUT", np.full(2, sign * value, np.float32))],
                    request_id=f"{sequence}_{number}",
                    sequence_id=sequence,
                    sequence_start=number == 0,
                    sequence_end=number == len(VALUES) - 1,
                )
        found: dict[int | str, list[float]] = {sequence: [] for sequence in sequences}
        for number in range(len(VALUES)):
            for sequence in sequences:
                result = stream.result()
                assert result.get_response().id == f"{sequence}_{number}"
                found[sequence].append(float(result.as_numpy("OUTPUT")[0]))
    expected = [float(each) for each in np.cumsum(VALUES)]
    assert found == {sequences[0]: expected, sequences[1]: [-each for each in expected]}


def test_tritons_example_of_calls(client: InferenceServerClient) -> None:
    """simple_grpc_sequence_sync_infer_client."""
    totals = [
        [call(client, sequence, sign * value, flags) for sequence, sign in ((2001, 1), ("2002", -1))]
        for value, flags in zip(VALUES, ["start", *[""] * (len(VALUES) - 2), "end"], strict=True)
    ]
    expected = np.cumsum(VALUES)
    assert totals == [[each, -each] for each in expected]
    with refused("FAILED_PRECONDITION", "there is no sequence 2001 of model 'sum'"):
        call(client, 2001)


def test_a_sequence_goes_from_calls_to_streams_and_back(stateful: Served, client: InferenceServerClient) -> None:
    assert call(client, 5, flags="start") == 1
    with InferenceServerClient(stateful.address) as other, CallbackStream(other) as stream:
        for _ in range(3):
            stream.send("sum", [given("x", ONE)], sequence_id=5)
        assert [float(stream.result().as_numpy("y")[0]) for _ in range(3)] == [2, 3, 4]
    assert call(client, 5) == 5
    assert call(client, 5, flags="start") == 1
    assert call(client, 5, flags="end") == 2


@pytest.mark.parametrize("streaming", [True, False])
def test_many_clients_each_equal_to_its_own_run(stateful: Served, tmp_path: Path, streaming: bool) -> None:
    """The sequences of all clients are interleaved as they come."""
    random = np.random.default_rng(8)
    inputs = [[random.standard_normal((1, FEATURES), np.float32) for _ in range(STEPS)] for _ in range(CLIENTS)]
    found: dict[int, list[Array]] = {}
    begin = threading.Barrier(8)

    def clients(first: int) -> None:
        """Eight clients, a step of each after the other."""
        begin.wait(30)
        with InferenceServerClient(stateful.address) as client:
            for number in range(STEPS):
                for each in range(first, first + 8):
                    sequence = f"client {each}" if each % 2 else each + 1
                    options = {"sequence_start": number == 0, "sequence_end": number == STEPS - 1}
                    result = client.infer("lstm", [given("x", inputs[each][number])], sequence_id=sequence, **options)
                    found.setdefault(each, []).append(np.array(result.as_numpy("y")))

    def stream(first: int) -> None:
        """The same on a stream, without waiting for an answer."""
        begin.wait(30)
        with InferenceServerClient(stateful.address) as client, CallbackStream(client) as stream:
            for number in range(STEPS):
                for each in range(first, first + 8):
                    options = {"sequence_start": number == 0, "sequence_end": number == STEPS - 1}
                    stream.send("lstm", [given("x", inputs[each][number])], sequence_id=each + 1, **options)
            for _ in range(STEPS):
                for each in range(first, first + 8):
                    found.setdefault(each, []).append(np.array(stream.result().as_numpy("y")))

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(stream if streaming else clients, first) for first in range(0, CLIENTS, 8)]:
            done.result(120)
    path = stateful_models.lstm(tmp_path, 1)
    for each in range(CLIENTS):
        alone = steps(path, [{"x": x} for x in inputs[each]], "y")
        for ours, plain in zip(found[each], alone, strict=True):
            np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)
    with hc.connect(stateful.address) as server:
        (account,) = (each for each in server.status().accounts if each.name == "sequences")
    assert account.used_bytes == 0


def test_a_real_model(client: InferenceServerClient, tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    inputs = [random.standard_normal((1, 576), np.float32) for _ in range(50)]
    with CallbackStream(client) as stream:
        for number, x in enumerate(inputs):
            stream.send("speech", [given("input", x)], sequence_id=1, sequence_start=not number)
        found = [np.array(stream.result().as_numpy("output")) for _ in inputs]
    plain = steps(stateful_models.speech(tmp_path), [{"input": x} for x in inputs], "output")
    np.testing.assert_allclose(found, [*plain], atol=1e-5)


def test_errors(client: InferenceServerClient) -> None:
    with refused("FAILED_PRECONDITION", "its first request needs sequence_start"):
        call(client, 31)
    with refused("INVALID_ARGUMENT", "needs a sequence_id"):
        client.infer("sum", [given("x", ONE)])
    with refused("INVALID_ARGUMENT", "needs a sequence_id"):
        call(client, 0, flags="start")
    with refused("INVALID_ARGUMENT", "the limit is 128"):
        call(client, "x" * 129, flags="start")


@pytest.mark.parametrize("typed", [False, True])
def test_a_request_that_fails_ends_its_sequence(client: InferenceServerClient, stateful: Served, typed: bool) -> None:
    """The next one would be answered without it. `typed`: it fails when it is read, before it is admitted."""
    with CallbackStream(client) as stream, RawStream(stateful.address) as raw:
        stream.send("sum", [given("x", ONE)], sequence_id=8, sequence_start=True)
        stream.result()
        bad = request("sum", Input("x", [2], b"abc"))
        if typed:
            bad = request("sum", Input("x", [2], b""))
            bad.raw_input_contents.clear()
            bad.inputs[0].contents.int_contents.append(1)
        bad.parameters["sequence_id"].int64_param = 8
        raw.send(bad)
        check_sentence(raw.receive().error_message)
        stream.send("sum", [given("x", ONE)], sequence_id=8)
        check_sentence(stream.error().message(), "sequence 8 of model 'sum' has ended", "INVALID_ARGUMENT", BEGIN)


def test_a_request_whose_other_parameters_are_wrong_ends_its_sequence(
    client: InferenceServerClient, stateful: Served
) -> None:
    call(client, 10, flags="start")
    bad = request("sum", Input("x", [2], bytes(8)))
    bad.parameters["sequence_id"].int64_param = 10
    bad.parameters["priority"].string_param = "high"
    with RawStream(stateful.address) as raw:
        raw.send(bad)
        check_sentence(raw.receive().error_message, "'priority'")
    with refused("FAILED_PRECONDITION", "sequence 10 of model 'sum' has ended"):
        call(client, 10)


def test_a_call_that_cannot_be_read_ends_its_sequence(client: InferenceServerClient, stateful: Served) -> None:
    call(client, 9, flags="start")
    bad = request("sum", Input("x", [2], b""))
    bad.raw_input_contents.clear()
    bad.inputs[0].contents.int_contents.append(1)
    bad.parameters["sequence_id"].int64_param = 9
    with grpc.insecure_channel(stateful.address) as channel, pytest.raises(grpc.RpcError):
        GRPCInferenceServiceStub(channel).ModelInfer(bad, timeout=30)
    with refused("FAILED_PRECONDITION", "sequence 9 of model 'sum' has ended"):
        call(client, 9)


def test_a_sequence_without_requests_ends(serve: Serve, tmp_path: Path) -> None:
    served = serve(stateful_models.sum_from(tmp_path), "--state=sequence", "--keep-seconds=0.3")
    with InferenceServerClient(served.address) as client, hc.connect(served.address) as server:
        call(client, 1, flags="start")
        account = next(each for each in server.status().accounts if each.name == "sequences")
        while account.used_bytes:
            account = next(each for each in server.status().accounts if each.name == "sequences")
        with refused("FAILED_PRECONDITION", "it had no request for 0.3 s", BEGIN):
            call(client, 1)


def test_a_model_that_is_reloaded_ends_its_sequences(serve: Serve, tmp_path: Path) -> None:
    served = serve(stateful_models.sum_from(tmp_path), "--state=sequence", "--model-control")
    with InferenceServerClient(served.address) as client:
        call(client, 1, flags="start")
        client.load_model("sum")
        with refused("FAILED_PRECONDITION", "version 1 of the model was unloaded or replaced", BEGIN):
            call(client, 1)
        assert call(client, 1, flags="start") == 1
        client.unload_model("sum")
        with refused("UNAVAILABLE", "unloaded"):
            call(client, 1)
        client.load_model("sum")
        with refused("FAILED_PRECONDITION", "unloaded or replaced", BEGIN):
            call(client, 1)


def test_there_may_be_only_so_many(serve: Serve, tmp_path: Path) -> None:
    served = serve(stateful_models.sum_from(tmp_path), "--state=sequence", "--sequences=2")
    with InferenceServerClient(served.address) as client:
        for sequence in (1, 2):
            call(client, sequence, flags="start")
        with refused("RESOURCE_EXHAUSTED", "2 of 2 are live"):
            call(client, 3, flags="start")
        call(client, 1, flags="end")
        call(client, 3, flags="start")


def test_a_run_that_fails_ends_its_sequence_and_no_other(serve: Serve, tmp_path: Path) -> None:
    """The rows do not go with those of the variable: the run fails and its slot is restored, while others go on."""
    served = serve(stateful_models.first_seen_sum(tmp_path), "--state=sequence", "--slots=1")

    def step(client: InferenceServerClient, sequence: int, rows: int, *, start: bool = False) -> list[float]:
        x = np.arange(1, rows + 1, dtype=np.float32)
        result = client.infer("first_seen_sum", [given("x", x)], sequence_id=sequence, sequence_start=start)
        found: list[float] = result.as_numpy("y").tolist()
        return found

    with InferenceServerClient(served.address) as client:
        for sequence in (1, 2):
            assert step(client, sequence, 3, start=True) == [2, 4, 6]
        for sequence in (3, 4, 5):
            assert step(client, sequence, 2, start=True) == [2, 4]
            with refused("INTERNAL", "its log has the details"):
                step(client, sequence, 3)
            with refused("FAILED_PRECONDITION", f"sequence {sequence} of", "ended with INTERNAL", BEGIN):
                step(client, sequence, 2)
            assert step(client, sequence, 3, start=True) == [2, 4, 6]
            assert step(client, 1, 3) == [2, 4, 6]


def test_clients_that_come_and_go(serve: Serve, tmp_path: Path) -> None:
    """Deadlines, vanishing clients and restarts, on ids that all share: whatever is answered follows from its start.

    Each value tells how many steps it stands for: the n-th step after a start adds one, so it is answered with n.
    """
    served = serve(stateful_models.sum_from(tmp_path), "--state=sequence")
    wrong: list[object] = []

    def come_and_go(seed: int) -> None:
        random = np.random.default_rng(seed)
        vanished = 0
        for _ in range(12):
            # What a stream had sent before it vanished may still be read.
            sequence = f"{seed} {vanished} {random.integers(2)}"
            with InferenceServerClient(served.address) as client, CallbackStream(client) as stream:
                count = int(random.integers(2, 30))
                for number in range(count):
                    options = {"sequence_start": not number, "timeout": 1 if random.random() < 0.03 else None}
                    stream.send("sum", [given("x", ONE)], sequence_id=sequence, **options)
                if random.random() < 0.3:
                    client.stop_stream(cancel_requests=True)
                    vanished += 1
                    continue
                failed = False
                for number in range(1, count + 1):
                    result, error = stream.next()
                    failed |= error is not None
                    if result is not None and (failed or float(result.as_numpy("y")[0]) != number):
                        wrong.append((sequence, number, result.as_numpy("y"), failed))

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(come_and_go, seed) for seed in range(8)]:
            done.result(120)
    assert not wrong
    with InferenceServerClient(served.address) as client:
        assert call(client, 1, flags="start") == 1


def test_the_configuration_tells_who_measures(client: InferenceServerClient) -> None:
    config = client.get_model_config("sum").config
    assert config.HasField("sequence_batching")
    assert config.sequence_batching.WhichOneof("strategy_choice") == "direct"
    assert config.sequence_batching.max_sequence_idle_microseconds == 300_000_000
    assert "sequence" in client.get_server_metadata().extensions
