"""What workers answer, put together."""

from __future__ import annotations

import pytest

from headrace.oip import open_inference_pb2 as oip
from headrace.server.services.merging import Answers, VersionState, merged_state
from headrace.server.services.native.merging import merge_models, merge_status
from headrace.server.services.oip.merging import merge_index, merge_statistics, undo
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Unavailable

SERVICE = "/inference.GRPCInferenceService"
READY, LOADING = pb.ModelState.READY, pb.ModelState.LOADING


def histogram(count: int) -> pb.Histogram:
    return pb.Histogram(bounds=[1], counts=[count, 1])


def test_a_status_is_the_sum_and_names_who_has_not_answered() -> None:
    one, other = (
        pb.ServerStatusResponse(
            version="1",
            streams=n,
            tickets_in_flight=n,
            resident_bytes=100,
            models=[
                pb.ModelStatus(name="m", version="1", inferences=n, durations=pb.Histogram(bounds=[1], counts=[n, 1]))
            ],
            memory=pb.Account(name="memory", used_bytes=n, limit_bytes=10),
            accounts=[pb.Account(name="keep", used_bytes=n, limit_bytes=5)],
            busiest_streams=[pb.StreamStatus(client=f"c{n}", tickets_in_flight=n)],
        ).SerializeToString()
        for n in (2, 3)
    )
    merged = pb.ServerStatusResponse.FromString(merge_status(Answers(b"", [(2, one), (1, other)], [(3, "has ended")])))
    assert (merged.streams, merged.tickets_in_flight, merged.resident_bytes) == (5, 5, 200)
    assert [(each.name, each.inferences, list(each.durations.counts)) for each in merged.models] == [("m", 5, [5, 2])]
    assert (merged.memory.used_bytes, merged.memory.limit_bytes) == (5, 20)
    assert [(each.name, each.limit_bytes) for each in merged.accounts] == [("keep", 10)]
    assert [each.client for each in merged.busiest_streams] == ["c3", "c2"]
    assert [(each.number, each.streams, each.inferences, each.problem) for each in merged.workers] == [
        (1, 3, 3, ""),
        (2, 2, 2, ""),
        (3, 0, 0, "has ended"),
    ]


def test_the_state_of_a_version_is_the_worst_and_says_where() -> None:
    ready, loading = VersionState("READY", ""), VersionState("LOADING", "")
    assert merged_state([(1, ready), (2, ready)]) == ready
    assert merged_state([(1, ready), (2, loading)]) == VersionState("LOADING", "worker 2: loading")
    assert merged_state([(1, None), (2, loading)]) == VersionState("UNAVAILABLE", "worker 1: it is not there")


def test_lists_and_indices_have_the_states_of_all() -> None:
    lists = [
        pb.ListModelsResponse(
            models=[pb.ModelDescription(name="m", version="1")],
            states=[pb.ModelState(name="m", version=version, state=state) for version, state in states],
        ).SerializeToString()
        for states in ([("10", READY), ("9", READY)], [("10", LOADING), ("9", READY)])
    ]
    merged = pb.ListModelsResponse.FromString(merge_models(Answers(b"", [(1, lists[0]), (2, lists[1])])))
    assert [(each.version, each.state, each.reason) for each in merged.states] == [
        ("9", READY, ""),
        ("10", LOADING, "worker 2: loading"),
    ]
    assert len(merged.models) == 1

    of_index = oip.RepositoryIndexResponse.ModelIndex
    indices = [
        oip.RepositoryIndexResponse(models=[of_index(name="m", version="1", state=state)]).SerializeToString()
        for state in ("READY", "UNAVAILABLE")
    ]
    for only_ready, expected in ((False, ["UNAVAILABLE"]), (True, [])):
        request = oip.RepositoryIndexRequest(ready=only_ready).SerializeToString()
        answers = Answers(request, [(1, indices[0]), (2, indices[1])])
        index = oip.RepositoryIndexResponse.FromString(merge_index(answers))
        assert [each.state for each in index.models] == expected


def test_statistics_are_of_all_or_of_none() -> None:
    one, other = (
        oip.ModelStatisticsResponse(
            model_stats=[
                oip.ModelStatistics(
                    name="m",
                    inference_count=n,
                    last_inference=10 * n,
                    inference_stats=oip.InferStatistics(success=oip.StatisticDuration(count=n, ns=n)),
                    batch_stats=[
                        oip.InferBatchStatistics(batch_size=n, compute_infer=oip.StatisticDuration(count=1, ns=5))
                    ],
                )
            ]
        ).SerializeToString()
        for n in (1, 2)
    )
    merged = oip.ModelStatisticsResponse.FromString(merge_statistics(Answers(b"", [(1, one), (2, other)])))
    (model,) = merged.model_stats
    assert (model.inference_count, model.last_inference) == (3, 20)
    assert (model.inference_stats.success.count, model.inference_stats.success.ns) == (3, 3)
    assert [(each.batch_size, each.compute_infer.ns) for each in model.batch_stats] == [(1, 5), (2, 5)]
    with pytest.raises(Unavailable, match="worker 2 has ended"):
        merge_statistics(Answers(b"", [(1, one)], [(2, "has ended")]))


def test_a_registration_is_undone_and_what_is_only_asked_is_not() -> None:
    register = oip.SystemSharedMemoryRegisterRequest(name="r", key="/r", byte_size=1).SerializeToString()
    undoing = undo(f"{SERVICE}/SystemSharedMemoryRegister", register)
    assert undoing is not None
    assert undoing[0] == f"{SERVICE}/SystemSharedMemoryUnregister"
    assert oip.SystemSharedMemoryUnregisterRequest.FromString(undoing[1]).name == "r"
    # One without a name would unregister all.
    assert undo(f"{SERVICE}/SystemSharedMemoryRegister", b"") is None
    assert undo(f"{SERVICE}/LogSettings", b"") is None
