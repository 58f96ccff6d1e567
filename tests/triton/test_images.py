"""tritonclient sends JPEG and PNG as BYTES, and asks for classes of prepared outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.port_options import InputOptions, OutputOptions
from tests import models
from tests.e2e.port_options import configured
from tests.e2e.serving import Served
from tests.server.engine.decoding.pictures import picture, png
from tests.triton.messages import given

IMAGE = Compilation(inputs={"x": InputOptions(encoded=True, resize="bilinear_pillow")})
PIXELS = picture(24, 32)
FRUIT = ("apple", "pear", "plum")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[InferenceServerClient]:
    image, scores = models.image(tmp_path, [-1, 3, 24, 32]), models.scores(tmp_path)
    labels = tmp_path / "fruit.txt"
    labels.write_text("\n".join(FRUIT))
    best = Compilation(outputs={"scores": OutputOptions(topk=3, labels=str(labels))})
    options = configured(tmp_path, image=IMAGE, scores=best)
    command = [str(image), str(scores), "--property=INFERENCE_PRECISION_HINT=f32", options]
    with (
        Served(command, tmp_path / "log") as served,
        InferenceServerClient(served.address) as client,
    ):
        yield client


def test_images_by_unary_calls_and_by_the_stream(client: InferenceServerClient) -> None:
    metadata = client.get_model_metadata("image")
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [("x", "BYTES", [-1])]
    files = given("x", np.array([png(PIXELS), png(PIXELS[::-1])], object))
    expected = np.stack((PIXELS, PIXELS[::-1])).transpose(0, 3, 1, 2).astype(np.float32)
    np.testing.assert_array_equal(client.infer("image", [files]).as_numpy("same"), expected)
    answers: SimpleQueue[tuple[object, object]] = SimpleQueue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("image", [files], request_id="good")
    client.async_stream_infer("image", [given("x", np.array([b"no image"], object))], request_id="bad")
    (good, none), (nothing, bad) = answers.get(timeout=30), answers.get(timeout=30)
    client.stop_stream()
    assert none is nothing is None
    np.testing.assert_array_equal(good.as_numpy("same"), expected)  # type: ignore[attr-defined]  # has no types
    assert "the image of input 'x' is not a JPEG or PNG file" in str(bad)


def test_a_bad_image_is_an_invalid_argument(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="image 1 of input 'x' is cut short") as caught:
        client.infer("image", [given("x", np.array([png(PIXELS), png(PIXELS)[:-50]], object))])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_classes_of_the_largest_elements_have_their_labels(client: InferenceServerClient) -> None:
    scores = np.array([[1, 9, 8, *range(7)]], np.float32)
    outputs = [InferRequestedOutput("scores", class_count=2), InferRequestedOutput("scores.indices")]
    result = client.infer("scores", [given("x", scores / 2)], outputs=outputs)
    assert result.as_numpy("scores").tolist() == [[b"9.000000:1:pear", b"8.000000:2:plum"]]
    assert result.as_numpy("scores.indices").tolist() == [[1, 2, 9]]
    with pytest.raises(InferenceServerException, match=r"request output 'scores\.indices', too"):
        client.infer("scores", [given("x", scores / 2)], outputs=outputs[:1])
    config = client.get_model_config("scores").config
    assert [each.label_filename for each in config.output] == ["labels.txt", "", ""]
