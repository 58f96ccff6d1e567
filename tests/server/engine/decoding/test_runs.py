"""Runs of models whose clients send images: equal to plain pixels, each ticket on its own, and every one ends."""

from __future__ import annotations

import gc
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from headrace.server.core.engine_api import Ended
from headrace.server.core.specs import ModelSpec
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.decoding import decoder as decoding
from headrace.server.engine.decoding.images import ImageFile
from headrace.server.engine.port_options import InputOptions
from headrace.server.engine.tensors import OutputTensor
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import InvalidArgument, ResourceExhausted
from headrace.wire.tensors import to_wire
from tests import models
from tests.server.engine.decoding.pictures import jpeg, picture, png, png_of_size
from tests.server.engine.driver import Driver, array, make, of, piece, results
from tests.stopwatch import Stopwatch

Array = npt.NDArray[Any]
NORMALISED = InputOptions(encoded=True, resize="bilinear_pillow", mean=(1.0, 2.0, 3.0), scale=(2.0, 3.0, 4.0))


def load(
    driver: Driver, folder: Path, shape: list[int], options: InputOptions = NORMALISED, **compilation: Any
) -> ModelSpec:
    settings = Compilation(
        properties={"INFERENCE_PRECISION_HINT": "f32"}, inputs={"x": options}, **{"slots": 2, "batch": 1, **compilation}
    )
    return driver.engine.load("m", "1", models.image(folder, [*shape]), settings)


def files(*given: bytes) -> dict[str, Array]:
    return {"x": np.array(given, object)}


def expected(*given: bytes) -> Array:
    """What NORMALISED gives a model of 24 x 32 pixels, by Pillow and NumPy."""
    pixels = [Image.open(io.BytesIO(file)).convert("RGB").resize((32, 24), Image.Resampling.BILINEAR) for file in given]
    stacked = (np.stack([np.asarray(each, np.float32) for each in pixels]) - (1, 2, 3)) / (2, 3, 4)
    result: Array = stacked.transpose(0, 3, 1, 2)
    return result


def test_clients_send_a_string_for_each_image(driver: Driver, tmp_path: Path) -> None:
    assert [str(port) for port in load(driver, tmp_path, [1, 3, 24, 32]).inputs] == ["BYTES[1]"]
    assert [str(port) for port in load(driver, tmp_path, [-1, 3, 24, 32]).inputs] == ["BYTES[1..]"]


def test_images_are_decoded_resized_and_normalised(driver: Driver, tmp_path: Path) -> None:
    spec = load(driver, tmp_path, [-1, 3, 24, 32])
    given = [png(picture(50, 60)), jpeg(picture(40, 30)), png(picture(24, 32))]
    sent = array(driver.infer(spec, files(*given)).sent[0])
    np.testing.assert_allclose(sent, expected(*given), rtol=1e-5, atol=1e-5)
    assert not driver.polls


def test_a_chained_input_is_decoded_too(driver: Driver, tmp_path: Path) -> None:
    spec = load(driver, tmp_path, [1, 3, 24, 32])
    file = jpeg(picture(50, 60))
    _, shape, data = to_wire(np.array([file], object))
    tensor = OutputTensor(Datatype.BYTES, shape, bytes(data))
    sent = driver.infer(spec, {"x": tensor}).sent[0]
    np.testing.assert_allclose(array(sent), expected(file), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("resize", ["bilinear_pillow", "linear", "cubic", "nearest", "bicubic_pillow"])
def test_a_batch_gives_the_bits_of_single_runs(driver: Driver, tmp_path: Path, resize: Any) -> None:
    spec = load(driver, tmp_path, [-1, 3, 24, 32], InputOptions(encoded=True, resize=resize, scale=(3.0,)))
    given = [jpeg(picture(20 + 5 * each, 90 - 7 * each, each)) for each in range(6)]
    alone = [driver.infer(spec, files(file)).sent[0].read() for file in given]
    together = driver.batch(of(*[piece(spec, files(file)) for file in given]))
    assert [bytes(result.sent[0].read()) for result in together] == [bytes(each) for each in alone]
    (tensor,) = driver.infer(spec, files(*given)).sent
    assert bytes(tensor.read()) == b"".join(map(bytes, alone))


def test_images_and_pixels_of_the_same_model_agree(driver: Driver, tmp_path: Path) -> None:
    for resize in ("linear", "cubic", "nearest"):
        encoded = load(driver, tmp_path, [1, 3, 24, 32], InputOptions(encoded=True, resize=resize))
        raw = load(driver, tmp_path, [1, 3, 24, 32], InputOptions(datatype="UINT8", layout="NHWC", resize=resize))
        pixels = picture(70, 50)
        np.testing.assert_array_equal(
            array(driver.infer(encoded, files(png(pixels))).sent[0]),
            array(driver.infer(raw, {"x": pixels[np.newaxis]}).sent[0]),
        )


def test_models_of_any_size_take_images_as_they_are(driver: Driver, tmp_path: Path) -> None:
    spec = load(driver, tmp_path, [-1, 3, -1, -1], InputOptions(encoded=True))
    for size in ((5, 7), (9, 3), (5, 7)):
        pixels = picture(*size)
        sent = array(driver.infer(spec, files(png(pixels), png(pixels[::-1]))).sent[0])
        np.testing.assert_array_equal(sent.transpose(0, 2, 3, 1), np.stack((pixels, pixels[::-1])))
    result = driver.run(make(spec, files(png(picture(5, 7)), png(picture(7, 5)))))
    assert str(result.error) == "image 1 of input 'x' has 5 x 7 pixels, but image 0 has 7 x 5: send one size"


def failure(ended: Ended, position: int) -> str:
    error = ended.failures[position]
    assert isinstance(error, InvalidArgument)
    return error.message


def test_a_bad_image_fails_its_own_ticket_only(driver: Driver, tmp_path: Path) -> None:
    spec = load(driver, tmp_path, [-1, 3, 24, 32])
    good = [png(picture(30, 30, seed)) for seed in range(3)]
    pieces = [
        piece(spec, files(good[0]), keep=["same"]),
        piece(spec, files(good[1], b"GIF89a")),
        piece(spec, files(good[1], good[2])),
        piece(spec, files(good[1][:-90])),
    ]
    run = of(*pieces)
    assert driver.engine.start(run) is None
    (ended,) = driver.wait()
    assert ended.error is None
    assert failure(ended, 1) == "image 1 of input 'x' is not a JPEG or PNG file; it looks like a GIF"
    assert failure(ended, 3) == "the image of input 'x' is cut short"
    assert len(ended.failures) == 2
    np.testing.assert_allclose(array(ended.sent[0][0]), expected(good[0]), rtol=1e-5, atol=1e-5)
    assert ended.kept[0][0].read() == ended.sent[0][0].read()
    np.testing.assert_allclose(array(ended.sent[2][0]), expected(*good[1:]), rtol=1e-5, atol=1e-5)
    assert ended.sent[1] == ended.sent[3] == ()


def test_a_run_of_bad_images_alone_fails_and_leaves_the_slot_usable(driver: Driver, tmp_path: Path) -> None:
    spec = load(driver, tmp_path, [1, 3, 24, 32], slots=1)
    for bad in (b"", png_of_size(60000, 60000), jpeg(picture(9, 9))[:40]):
        result = driver.run(make(spec, files(bad)))
        assert isinstance(result.error, InvalidArgument)
    good = png(picture(30, 30))
    np.testing.assert_allclose(array(driver.infer(spec, files(good)).sent[0]), expected(good), rtol=1e-5, atol=1e-5)


def test_pixels_of_one_request_are_bounded(driver: Driver, tmp_path: Path) -> None:
    spec = load(driver, tmp_path, [-1, 3, -1, -1], InputOptions(encoded=True))
    bombs = [png_of_size(8000, 8000)] * 30
    result = driver.run(make(spec, files(*bombs)))
    assert isinstance(result.error, ResourceExhausted)
    assert not result.error.retryable
    assert result.error.message == (
        f"the images of the request take {30 * 3 * 8000 * 8000} bytes as pixels; the limit is 268435456"
    )


def test_the_number_of_images_in_a_request_is_bounded(driver: Driver, tmp_path: Path) -> None:
    spec = load(driver, tmp_path, [-1, 3, -1, -1], InputOptions(encoded=True))
    small = png(picture(1, 1))
    assert array(driver.infer(spec, files(*[small] * decoding.MAX_IMAGES)).sent[0]).shape == (8192, 3, 1, 1)
    result = driver.run(make(spec, files(*[small] * (decoding.MAX_IMAGES + 1))))
    assert isinstance(result.error, InvalidArgument)
    assert result.error.message == "input 'x' has 8193 images; the limit is 8192"


def images() -> list[object]:
    """The images that there are."""
    return [each for each in gc.get_objects() if isinstance(each, (ImageFile, Image.Image))]


@pytest.mark.parametrize("bad", [b"no image", png(picture(30, 30))[:-60], png(picture(9, 9))])
def test_the_images_of_a_run_are_freed_with_it_even_if_one_is_bad(driver: Driver, tmp_path: Path, bad: bytes) -> None:
    """Their memory is given back to the budget, so it must not wait for the garbage collector."""
    spec = load(driver, tmp_path, [-1, 3, 24, 32], InputOptions(encoded=True))
    good = png(picture(24, 32))
    driver.infer(spec, files(good))
    gc.collect()
    before = images()
    gc.disable()
    try:
        assert driver.engine.start(of(piece(spec, files(good)), piece(spec, files(good, bad)))) is None
        (ended,) = driver.wait()
        alone = driver.run(make(spec, files(good, bad)))
        left = [each for each in images() if not any(each is other for other in before)]
    finally:
        gc.enable()
    assert failure(ended, 1).startswith("image 1 of input 'x' ")
    assert alone.error is not None
    assert left == []


def test_runs_end_even_if_the_system_has_no_more_threads(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load(driver, tmp_path, [1, 3, 24, 32], slots=1)
    left = [0]
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    file = png(picture(24, 32))
    assert isinstance(driver.run(make(spec, files(file))).error, RuntimeError)
    left[0] = 1
    for _ in range(3):
        np.testing.assert_allclose(array(driver.infer(spec, files(file)).sent[0]), expected(file), rtol=1e-5, atol=1e-5)
    driver.engine.close()


class Held:
    """Image files that are not decoded before `release`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Semaphore(0)
        self.release = threading.Event()
        decode = ImageFile.decode

        def held(file: ImageFile) -> Any:
            self.begun.release()
            assert self.release.wait(30)
            return decode(file)

        monkeypatch.setattr(ImageFile, "decode", held)


def test_cancelling_ends_runs_that_wait_at_once_and_others_after_their_image(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    spec = load(driver, tmp_path, [-1, 3, 24, 32], slots=decoding.THREADS + 1)
    file = png(picture(30, 30))
    runs = [make(spec, files(file, file), slot=number) for number in range(decoding.THREADS + 1)]
    for run in runs:
        assert driver.engine.start(run) is None
    for _ in range(decoding.THREADS):
        assert held.begun.acquire(timeout=30)
    *decoded, waiting = runs
    driver.engine.cancel(waiting)
    (ended,) = driver.wait()
    assert ended.run is waiting
    assert ended == Ended(waiting)
    for run in decoded:
        driver.engine.cancel(run)
    assert driver.engine.collect() == []
    held.release.set()
    ends = driver.wait(len(decoded))
    assert {id(ended.run) for ended in ends} == {id(run) for run in decoded}
    assert all(ended == Ended(ended.run) for ended in ends)
    assert held.begun.acquire(blocking=False) is False, "an image was decoded although its run had been cancelled"
    np.testing.assert_allclose(array(driver.infer(spec, files(file)).sent[0]), expected(file), rtol=1e-5, atol=1e-5)
    driver.engine.unload(spec)


def test_closing_while_images_are_decoded(driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    spec = load(driver, tmp_path, [1, 3, 24, 32], slots=2)
    for slot in range(2):
        assert driver.engine.start(make(spec, files(png(picture(30, 30))), slot=slot)) is None
    assert held.begun.acquire(timeout=30)
    threading.Timer(0.1, held.release.set).start()
    driver.engine.close()
    assert driver.engine.collect() == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decoder") and thread.is_alive()]


def test_closing_does_not_wait_for_one_image_after_another(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopwatch: Stopwatch
) -> None:
    held = Held(monkeypatch)
    monkeypatch.setattr(decoding, "STOP_SECONDS", 0.5)
    monkeypatch.setattr(decoding, "THREADS", 4)
    spec = load(driver, tmp_path, [1, 3, 24, 32], slots=4)
    for slot in range(4):
        assert driver.engine.start(make(spec, files(png(picture(30, 30))), slot=slot)) is None
        assert held.begun.acquire(timeout=30)
    stopwatch.start()
    driver.engine.close()
    elapsed, ran = stopwatch.elapsed(), stopwatch.ran()
    held.release.set()
    assert elapsed >= 0.5
    assert ran < 1.5


def test_memory_of_decoding_is_taken_in_turn(driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that need more than there is together still all end, and give everything back."""
    monkeypatch.setattr(driver.engine, "_decoder", decoding.Decoder(driver.engine._on_decoded, nbytes=1 << 20))
    spec = load(driver, tmp_path, [-1, 3, 24, 32], slots=6)
    given = [png(picture(300, 250, seed)) for seed in range(6)]
    for slot, file in enumerate(given):
        assert driver.engine.start(make(spec, files(file, file), slot=slot)) is None
    ended = sorted(driver.wait(6), key=lambda each: each.run.slot)
    for each, file in zip(ended, given, strict=True):
        np.testing.assert_allclose(array(results(each)[0].sent[0]), expected(file, file), rtol=1e-5, atol=1e-5)
    assert repr(driver.engine._decoder) == "<Decoder 0 runs, 0 of them wait; <Budget 0 of 1048576 bytes, 0 wait>>"


def test_every_run_ends_once_with_its_own_result_whatever_is_cancelled(driver: Driver, tmp_path: Path) -> None:
    spec = load(driver, tmp_path, [-1, 3, 24, 32], slots=4)
    random = np.random.default_rng(5)
    given = [png(picture(24 + 40 * (seed % 3), 32, seed)) for seed in range(6)] + [
        b"no image",
        png(picture(9, 9))[:-60],
    ]
    running: dict[int, tuple[Any, list[int]]] = {}
    counts = {"done": 0, "failed": 0, "cancelled": 0}
    cancelled: set[int] = set()
    for _ in range(600):
        free = [slot for slot in range(4) if slot not in running]
        if free and random.random() < 0.7:
            chosen = random.integers(len(given), size=random.integers(1, 4)).tolist()
            run = of(*[piece(spec, files(given[each])) for each in chosen], slot=free[0])
            assert driver.engine.start(run) is None
            running[free[0]] = run, chosen
        if running and random.random() < 0.3:
            slot = int(random.choice([*running]))
            driver.engine.cancel(running[slot][0])
            cancelled.add(slot)
        ends = driver.wait() if len(running) == 4 else [*driver.engine.collect(), *driver.engine.poll()]
        for ended in ends:
            run, chosen = running.pop(ended.run.slot)
            assert ended.run is run
            counts[judge(ended, chosen, given, ended.run.slot in cancelled)] += 1
            cancelled.discard(ended.run.slot)
    if running:
        assert len(driver.wait(len(running))) == len(running)
    assert min(counts.values()) > 5, counts
    assert repr(driver.engine._decoder).startswith("<Decoder 0 runs, 0 of them wait; <Budget 0 of ")


def judge(ended: Ended, chosen: list[int], given: list[bytes], was_cancelled: bool) -> str:
    """Check the results of a run of these files, of which those from 6 on are bad. Returns what became of it."""
    if ended.error is not None:
        assert isinstance(ended.error, InvalidArgument)
        assert min(chosen) >= 6
        return "failed"
    if not ended.sent:
        assert was_cancelled
        return "cancelled"
    for position, each in enumerate(chosen):
        assert (position in ended.failures) == (each >= 6)
        if each < 6:
            sent = array(ended.sent[position][0])
            np.testing.assert_allclose(sent, expected(given[each]), rtol=1e-5, atol=1e-5)
    return "done"
