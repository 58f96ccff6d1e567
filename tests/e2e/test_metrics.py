"""What a server tells Prometheus is what happened, to the request."""

from __future__ import annotations

import socket
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest

import headrace.client as hc
from headrace.client import blocking
from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub
from tests import models
from tests.e2e.scraping import Scraped, get, scrape, url_of
from tests.e2e.scripted_load import AM, CUT_SHORT, FAILING, OPTIONS, SLOW, ScriptedLoad
from tests.e2e.serving import Serve, run_server
from tests.e2e.stubs import StubStream
from tests.waiting import until

PORT = "--metrics-port=0"
X = np.array([1, 2], np.float32)


def at_rest(url: str) -> Scraped:
    """The metrics once nothing is in flight any more."""

    def look() -> Scraped | None:
        scraped = scrape(url)
        busy = scraped("headrace_requests_in_flight") + scraped("headrace_streams_open")
        busy += scraped("headrace_slots") - scraped("headrace_slots", state="free")
        return None if busy else scraped

    scraped = until(look, lambda: "something is in flight still")
    assert scraped is not None
    return scraped


def folded(ends: dict[tuple[str, ...], float]) -> Counter[tuple[str, ...]]:
    """Expired and cancelled together."""
    found: Counter[tuple[str, ...]] = Counter()
    for (model, version, outcome, code), count in ends.items():
        short = outcome in ("expired", "cancelled")
        found[model, version, *(CUT_SHORT if short else (outcome, code))] += int(count)
    return found


@pytest.mark.parametrize("transport", ["completion-queue", "aio"])
def test_metrics_are_what_a_scripted_load_has_sent(serve: Serve, tmp_path: Path, transport: str) -> None:
    served = serve(*ScriptedLoad.models(tmp_path), *OPTIONS, PORT, f"--transport={transport}")
    url = url_of(served)
    load = ScriptedLoad(served.address)
    load.run()
    scraped = at_rest(url)
    ends = scraped.by("headrace_requests_total", "model", "version", "outcome", "code")
    assert folded(ends) == load.ends
    assert ends["slow", "1", "cancelled", "CANCELLED"] >= 2 + 2
    assert ends["slow", "1", "expired", "DEADLINE_EXCEEDED"] >= 2
    for model, version in (AM, SLOW, FAILING):
        done = ends[model, version, "done", "OK"]
        for phase in ("waiting", "queued", "running", "sending", "duration"):
            name = f"headrace_request_{phase}_seconds_count"
            assert scraped(name, model=model, version=version) == done, name
        assert scraped("headrace_batch_size_sum", model=model) == done
        assert scraped("headrace_batch_size_count", model=model) == scraped("headrace_runs_total", model=model) > 0
    assert scraped("headrace_runs_total", model="am", mode="direct") > 0
    assert scraped("headrace_runs_total", model="slow") == scraped("headrace_runs_total", model="slow", mode="async")
    phases = [scraped(f"headrace_request_{phase}_seconds_sum") for phase in ("waiting", "queued", "running", "sending")]
    assert sum(phases) == pytest.approx(scraped("headrace_request_duration_seconds_sum"))
    assert scraped.by("headrace_fetches_total", "outcome", "code") == load.fetches
    assert scraped.by("headrace_rejected_total", "reason") == load.rejected
    assert scraped.by("headrace_streams_opened_total", "kind") == load.opened
    assert scraped("headrace_frame_commands_count") == len(load.commands)
    assert scraped("headrace_frame_commands_sum") == sum(load.commands)
    assert scraped("headrace_frame_events_sum") == load.events
    assert 1 <= scraped("headrace_connections_opened_total") <= 4  # gRPC lets channels share them
    assert scraped("headrace_slots") == scraped("headrace_slots", state="free") == 3
    assert scraped("headrace_load_duration_seconds_count", outcome="loaded") == 3
    assert scraped("headrace_memory_used_bytes") == scraped("headrace_account_used_bytes", account="caches")
    assert scraped("headrace_slots_restored_total", model="failing") == 3


def test_probes_tell_when_the_server_wants_work(serve: Serve, tmp_path: Path) -> None:
    """Before it stops it is not ready, and tells so as long as it serves."""
    served = serve(f"scale={models.scale(tmp_path)}", PORT, "--drain-delay=2", "--grace=60")
    url = url_of(served)
    assert get(f"{url}/healthz")[:2] == (200, "alive\n")
    assert get(f"{url}/readyz")[:2] == (200, "ready\n")
    assert (scrape(url)("headrace_ready"), scrape(url)("headrace_draining")) == (1, 0)
    with blocking.connect(served.address) as client, client.stream() as stream:
        kept = stream.submit("scale", {"x": X}, keep=["y"])
        kept.result()
        served.process.terminate()
        served.wait_until_logged("no longer ready")
        assert get(f"{url}/readyz")[:2] == (503, "not ready\n")
        assert get(f"{url}/healthz").status == 200
        served.wait_until_logged("draining:")
        scraped = scrape(url)
        assert (scraped("headrace_ready"), scraped("headrace_draining")) == (0, 1)
        assert scraped("headrace_account_used_bytes", account="keep") > 0
    assert served.process.wait(60) == 0


def test_a_scrape_may_ask_for_either_format(serve: Serve, tmp_path: Path) -> None:
    url = url_of(serve(f"scale={models.scale(tmp_path)}", PORT))
    plain = get(f"{url}/metrics", "text/plain")
    assert plain.content_type.startswith("text/plain; version=0.0.4")
    assert "# TYPE headrace_requests_total counter\n" in plain.text
    modern = get(f"{url}/metrics")
    assert modern.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")
    assert get(f"{url}/else") == (404, "there are /metrics, /healthz and /readyz\n", "text/plain; charset=utf-8")
    build = scrape(url).labels("headrace_build_info")[0]
    assert build.keys() == {"version", "build", "transport", "python", "openvino", "grpcio"}
    assert scrape(url)("process_resident_memory_bytes") > 1 << 20


def test_names_that_no_model_has_make_no_series(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"scale={models.scale(tmp_path)}", PORT, "--model-control")
    url = url_of(served)
    with blocking.connect(served.address) as client:
        for number in range(50):
            with pytest.raises(hc.NotFound):
                client.infer(f"ghost-{number}", {"x": X})
        client.infer("scale", {"x": X})
        scraped = at_rest(url)
        assert {each["model"] for each in scraped.labels("headrace_requests_total")} == {"", "scale"}
        assert scraped("headrace_requests_total", model="", outcome="failed", code="NOT_FOUND") == 50
        client.load_model("scale")
        client.infer("scale", {"x": X})
        assert at_rest(url)("headrace_requests_total", model="scale") == 2  # loading it again changes nothing
        client.unload_model("scale")
        assert {each["model"] for each in at_rest(url).labels("headrace_requests_total")} == {""}


def test_calls_beyond_the_limit_are_counted(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"scale={models.scale(tmp_path)}", PORT, "--streams=1")
    url = url_of(served)
    with StubStream(served.address):
        with grpc.insecure_channel(served.address) as channel, pytest.raises(grpc.RpcError) as refused:
            InferenceStub(channel).Infer(pb.InferRequest(), timeout=60)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        scraped = scrape(url)
        assert scraped("headrace_rejected_total", reason="calls") == 1
        assert scraped("headrace_streams_open", kind="frames") == 1
        assert scraped("headrace_connections_open") == 1


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    model = str(models.scale(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_server(model, "--port=0", f"--metrics-port={port}")
    where = f"127.0.0.1:{port}: port {port} of 127.0.0.1 is already in use"
    assert (ended.returncode, ended.stdout) == (4, "")
    assert ended.stderr.endswith(f"headrace-server: --metrics-port: cannot listen on {where}\n")


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--metrics-port=70000", "70000 is not a port"),
        ("--metrics-host=unix:/run/x", "is a socket, which no scraper reaches"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, option: str, problem: str) -> None:
    ended = run_server(str(models.scale(tmp_path)), option)
    assert ended.returncode == 2
    assert problem in ended.stderr + ended.stdout


def test_without_the_option_nothing_listens(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"scale={models.scale(tmp_path)}")
    assert served.printed == [f"headrace ready on {served.address} (1 model)\n"]
    sockets = [path.readlink() for path in Path(f"/proc/{served.process.pid}/fd").iterdir()]
    inodes = {each.name[8:-1] for each in sockets if each.name.startswith("socket:[")}
    tables = [Path(f"/proc/{served.process.pid}/net/{name}") for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    listening = {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes}
    assert listening == {int(served.address.rpartition(":")[2])}
