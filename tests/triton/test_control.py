"""Changes of the server: models, log settings, and what is not implemented."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferRequestedOutput

from tests import models
from tests.e2e.serving import Serve
from tests.triton.messages import check_sentence, given, refused
from tests.triton.streams import CallbackStream

ONE = np.ones(1, np.float32)
NOT_HERE: dict[str, Callable[[InferenceServerClient], object]] = {
    "trace settings": lambda client: client.get_trace_settings(),
    "traces": lambda client: client.update_trace_settings("scale", {"trace_rate": "1"}),
    "cuda status": lambda client: client.get_cuda_shared_memory_status(),
    "cuda": lambda client: client.register_cuda_shared_memory("region", b"aGFuZGxl", 0, 64),
    "no cuda": lambda client: client.unregister_cuda_shared_memory("region"),
}


def states(client: InferenceServerClient) -> dict[str, str]:
    return {each.name: each.state for each in client.get_model_repository_index().models}


def test_the_index_lists_all_models(client: InferenceServerClient) -> None:
    index = client.get_model_repository_index().models
    assert ("scale", "1", "READY", "") in [(each.name, each.version, each.state, each.reason) for each in index]
    assert len({each.name for each in index}) == len(index)
    assert set(states(client).values()) == {"READY"}


def test_models_stay_as_they_are_without_model_control(client: InferenceServerClient) -> None:
    with refused("PERMISSION_DENIED", "--model-control"):
        client.unload_model("scale")
    with refused("PERMISSION_DENIED", "--model-control"):
        client.load_model("scale")
    with refused("PERMISSION_DENIED"):
        client.load_model("nowhere", config="{}")
    assert client.is_model_ready("scale")


def test_a_model_is_unloaded_and_loaded_again(serve: Serve, tmp_path: Path) -> None:
    served = serve(models.scale(tmp_path), models.add_multiply(tmp_path), "--model-control")
    with InferenceServerClient(served.address) as client:
        assert client.infer("scale", [given("x", ONE)]).as_numpy("y") == [3]
        client.unload_model("scale")
        assert not client.is_model_ready("scale")
        assert client.is_model_ready("add_multiply")
        assert client.is_server_ready()
        with pytest.raises(Exception, match="'scale'"):
            client.infer("scale", [given("x", ONE)])
        assert states(client) == {"scale": "UNAVAILABLE", "add_multiply": "READY"}
        for _ in range(2):  # loading what is there loads it again
            client.load_model("scale")
            assert client.infer("scale", [given("x", ONE)]).as_numpy("y") == [3]
        assert states(client) == {"scale": "READY", "add_multiply": "READY"}
        with refused("NOT_FOUND", "'nowhere'"):
            client.load_model("nowhere")
        with refused("NOT_FOUND", "'nowhere'"):
            client.unload_model("nowhere")
        assert client.is_model_ready("scale")


def test_a_model_that_has_changed_is_read_anew(serve: Serve, tmp_path: Path) -> None:
    """The next request gets the new one, on streams that were open before, too."""
    other = tmp_path / "other"
    other.mkdir()
    path, new = models.scale(tmp_path), models.identity(other)
    served = serve(f"model={path}", "--model-control")
    with InferenceServerClient(served.address) as client, CallbackStream(client) as stream:
        stream.send("model", [given("x", ONE)])
        assert stream.result().as_numpy("y").tolist() == [3]
        for suffix in (".xml", ".bin"):
            new.with_suffix(suffix).replace(path.with_suffix(suffix))
        client.load_model("model")
        stream.send("model", [given("x", ONE)])
        assert stream.result().as_numpy("same").tolist() == [[1]]
        assert client.get_model_metadata("model").outputs[0].name == "same"
        stream.send("model", [given("x", ONE)], outputs=[InferRequestedOutput("y")])
        check_sentence(stream.error().message(), "'y'")


def test_a_model_that_is_in_use_is_unloaded_after_its_runs(serve: Serve, tmp_path: Path) -> None:
    served = serve(models.slow(tmp_path), "--model-control")
    with InferenceServerClient(served.address) as client:
        answers: list[object] = []
        client.start_stream(lambda result, error: answers.append(error or result.as_numpy("y").tolist()))
        for _ in range(3):
            client.async_stream_infer("slow", [given("x", ONE)])
        client.async_stream_infer("nowhere", [given("x", ONE)])
        client.unload_model("slow")
        client.stop_stream()
    assert len(answers) == 4
    # Those which came before the unload have run, the others were refused: none was lost.
    assert all(answer == [1.0] or "'slow'" in str(answer) or "'nowhere'" in str(answer) for answer in answers)


def test_a_model_that_cannot_be_loaded_again_says_why(serve: Serve, tmp_path: Path) -> None:
    path = models.scale(tmp_path)
    served = serve(path, "--model-control")
    with InferenceServerClient(served.address) as client:
        path.write_text("this is no model")
        with pytest.raises(Exception, match="'scale'") as failed:
            client.load_model("scale")
        assert str(tmp_path) not in str(failed.value)
        assert client.is_server_live()


@pytest.mark.parametrize("what", NOT_HERE)
def test_what_is_not_implemented_says_so(client: InferenceServerClient, what: str) -> None:
    with refused("UNIMPLEMENTED"):
        NOT_HERE[what](client)


def test_log_settings_are_shown_and_changed(client: InferenceServerClient) -> None:
    settings = client.get_log_settings().settings
    assert {"log_info", "log_warning", "log_error", "log_verbose_level"} <= set(settings)
    assert settings["log_info"].bool_param
    with refused("INVALID_ARGUMENT", "log_nonsense"):
        client.update_log_settings({"log_nonsense": True})
    assert client.get_log_settings().settings["log_info"].bool_param
