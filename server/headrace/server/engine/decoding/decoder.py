"""Decodes the images of runs, each run on one thread."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import monotonic

import numpy as np

from headrace.server.core.engine_api import Run
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.engine.decoding.budget import Budget
from headrace.server.engine.decoding.images import BadImageError, ImageFile, ImageOptions
from headrace.server.engine.decoding.parts import DecodedPlans, HeldPart, Pixels, Shape
from headrace.server.processors import available_processors
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import HeadraceError, InvalidArgument, ResourceExhausted, forget_frames, quote
from headrace.wire.tensors import Buffer, bytes_offsets

THREADS = min(16, available_processors())
MEMORY_BYTES = 512 << 20
"""Of images that are being decoded, and of the pixels of runs. An image of MAX_PIXELS may take twice as much, and is
decoded while nothing else is."""
STOP_SECONDS = 5.0
"""How long `close` waits for the images in progress: longer than most take."""
MAX_IMAGES = 8192
"""Of an input of a request: reading a header takes some 40 us and 2 kB, whatever the size of the image."""
_PREFIX = 4
"""Bytes of the length before each element of BYTES."""

logger = logging.getLogger(__name__)


class ImageInputs:
    """The inputs of a model that take images, by the index of the port. `spec` has the ports of the runtime."""

    def __init__(self, spec: ModelSpec, options: Mapping[int, ImageOptions]) -> None:
        self.spec = spec
        self.options = options
        self.plans = DecodedPlans(spec)

    @property
    def shown(self) -> tuple[Port, ...]:
        """All inputs of the model as clients see them: of images an element of BYTES for each."""
        return tuple(
            Port(port.index, port.names, Datatype.BYTES, (_at_least_one(port.shape[0]),))
            if port.shape is not None and port.index in self.options
            else port
            for port in self.spec.inputs
        )


def _at_least_one(images: Dimension) -> Dimension:
    return Dimension(max(1, images.min), images.max)


@dataclass(slots=True)
class Decoded:
    """What decoding has made of a run: the parts that can run, and why the others cannot, by their position.

    With `error` nothing can run. `release` is to be called when the run is over.
    """

    positions: Sequence[int] = ()
    parts: Sequence[HeldPart] = ()
    failures: Mapping[int, HeadraceError] = field(default_factory=dict)
    error: Exception | None = None
    release: Callable[[], None] = lambda: None


class _CancelledError(Exception):
    """The run is not wanted any more."""


class Job:
    """A run whose images are to be decoded."""

    def __init__(self, run: Run, inputs: ImageInputs) -> None:
        self.run = run
        self.inputs = inputs
        self.parts = [HeldPart.of(part) for part in run.parts]
        self.cancelled = threading.Event()


class Decoder:
    """`decoded` is called on a thread of the decoder for each run that was given to it, also for cancelled ones.

    The threads start with the first run.
    """

    def __init__(self, decoded: Callable[[Run, Decoded], None], nbytes: int = MEMORY_BYTES) -> None:
        self._decoded = decoded
        self._nbytes = nbytes
        self._budget = Budget(nbytes)
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._active: dict[Run, Job] = {}
        """Those that are waiting or being decoded."""
        self._threads: list[threading.Thread] = []
        self._closed = False

    def start(self, run: Run, inputs: ImageInputs) -> None:
        """Decode the images of a run. Raises RuntimeError if there is no thread, and none can be started."""
        job = Job(run, inputs)
        with self._changed:
            if len(self._threads) < THREADS:
                self._start_thread()
            self._active[run] = job
            self._jobs.append(job)
            self._changed.notify()

    def _start_thread(self) -> None:
        # A daemon, so that the process does not wait for an image at its end.
        thread = threading.Thread(target=self._work, name=f"decoder {len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more of them
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def cancel(self, run: Run) -> None:
        """Stop decoding the images of a run. It is reported at once if that has not begun, else after an image."""
        with self._changed:
            job = self._active.get(run)
            if job is None:
                return
            job.cancelled.set()
            waiting = job in self._jobs
            if waiting:
                self._jobs.remove(job)
                del self._active[run]
        self._budget.look()
        if waiting:
            self._decoded(run, Decoded())

    def close(self) -> None:
        """Drop all runs. Blocks until the threads have ended, but for STOP_SECONDS at most."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            for job in self._active.values():
                job.cancelled.set()
            self._changed.notify_all()
        self._budget.look()
        until = monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self._jobs.popleft()
            try:
                decoded = self._decode(job)
            except _CancelledError:
                decoded = Decoded()
            except HeadraceError as error:
                decoded = Decoded(error=_alone(error))
            except Exception as error:  # of any kind: the run must end, and the thread go on
                decoded = Decoded(error=error)
            with self._changed:
                del self._active[job.run]
            self._decoded(job.run, decoded)
            del job, decoded

    def _decode(self, job: Job) -> Decoded:
        """Read all headers, take the memory for everything, and decode. Raises MemoryError."""
        failures: dict[int, HeadraceError] = {}
        opened: dict[int, dict[int, _Images]] = {}
        for position, part in enumerate(job.parts):
            try:
                opened[position] = {
                    index: _Images(job, index, shape, data)
                    for index, (shape, data) in part.encoded(job.inputs.options).items()
                }
            except HeadraceError as error:
                failures[position] = _alone(error)
        every = [images for part in opened.values() for images in part.values()]
        self._check(sum(images.result_bytes for images in every))
        taken = self._budget.take(_memory(every), job.cancelled)
        if taken < 0:
            raise _CancelledError
        try:
            parts: dict[int, HeldPart] = {}
            for position, images in opened.items():
                try:
                    pixels = {index: each.decode() for index, each in images.items()}
                except HeadraceError as error:
                    failures[position] = _alone(error)
                else:
                    parts[position] = job.inputs.plans.part(job.parts[position], pixels)
        except BaseException:
            self._budget.give_back(taken)
            raise
        return self._result(parts, failures, sum(images.result_bytes for images in every), taken)

    def _check(self, nbytes: int) -> None:
        """Raises ResourceExhausted for a run whose pixels would leave too little for others."""
        if nbytes > self._nbytes // 2:
            raise ResourceExhausted(
                f"the images of the request take {nbytes} bytes as pixels; the limit is {self._nbytes // 2}",
                retryable=False,
            )

    def _result(
        self, parts: Mapping[int, HeldPart], failures: Mapping[int, HeadraceError], kept: int, taken: int
    ) -> Decoded:
        """Give back what only decoding has taken."""
        kept = min(kept, taken) if parts else 0
        self._budget.give_back(taken - kept)
        if not parts:
            return Decoded(failures=failures, error=next(iter(failures.values())))
        return Decoded([*parts], [*parts.values()], failures, release=_once(self._budget, kept))

    def __repr__(self) -> str:
        return f"<Decoder {len(self._active)} runs, {len(self._jobs)} of them wait; {self._budget}>"


class _Images:
    """The images of one input of a part, with their headers read. Raises InvalidArgument."""

    def __init__(self, job: Job, index: int, shape: Shape, data: Buffer) -> None:
        options = job.inputs.options[index]
        self._port = job.inputs.spec.inputs[index]
        self._cancelled = job.cancelled
        offsets = bytes_offsets(data, shape)
        self._count = len(offsets) - 1
        if self._count > MAX_IMAGES:
            raise InvalidArgument(f"input {quote(self._port.name)} has {self._count} images; the limit is {MAX_IMAGES}")
        self._files: list[ImageFile] = []
        for number, (start, stop) in enumerate(pairwise(offsets)):
            self._look()
            try:
                self._files.append(ImageFile(bytes(data[start + _PREFIX : stop]), options))
            except BadImageError as error:
                raise self._error(number, str(error)) from error
        self.memory_bytes = max((file.nbytes for file in self._files), default=0)
        self.result_bytes = sum(file.result_bytes for file in self._files)

    def decode(self) -> Pixels:
        """The pixels of all images, [images, height, width, channels]. Raises InvalidArgument."""
        pixels: list[Pixels] = []
        for number, file in enumerate(self._files):
            self._look()
            try:
                pixels.append(file.decode())
            except BadImageError as error:
                raise self._error(number, str(error)) from error
            if pixels[-1].shape != pixels[0].shape:
                sizes = [f"{each.shape[1]} x {each.shape[0]}" for each in (pixels[-1], pixels[0])]
                raise self._error(number, f"has {sizes[0]} pixels, but image 0 has {sizes[1]}: send one size")
        self._files.clear()
        joined = pixels[0][np.newaxis] if len(pixels) == 1 else np.stack(pixels)
        if not self._port.admits(joined.shape):
            _, height, width, _ = joined.shape
            raise self._error(0, f"has {width} x {height} pixels; the model takes {self._port}")
        return np.ascontiguousarray(joined)

    def _look(self) -> None:
        if self._cancelled.is_set():
            raise _CancelledError

    def _error(self, number: int, clause: str) -> InvalidArgument:
        which = f"image {number} of input" if self._count > 1 else "the image of input"
        return InvalidArgument(f"{which} {quote(self._port.name)} {clause}")


def _memory(every: Sequence[_Images]) -> int:
    """Of a run: all pixels for the model, twice while they are joined, and one image after another."""
    return 2 * sum(images.result_bytes for images in every) + max((images.memory_bytes for images in every), default=0)


def _alone(error: HeadraceError) -> HeadraceError:
    """An error without what has led to it: tracebacks keep the images and pixels of the whole run alive."""
    forget_frames(error)
    return error


def _once(budget: Budget, nbytes: int) -> Callable[[], None]:
    left = [nbytes]

    def release() -> None:
        if left:
            budget.give_back(left.pop())

    return release
