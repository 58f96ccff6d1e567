"""The callback of an InferRequest, and how to know that the runtime has let go of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import Event

import openvino as ov


def call_back(request: ov.InferRequest, on_completed: Callable[[], None]) -> Event:
    """Make the runtime call `on_completed` after each run, on a thread of its own.

    The event is set when the runtime has released the callback, and with it what `on_completed` refers to.
    """

    def completed(_: object) -> None:
        on_completed()

    released = Event()
    weakref.finalize(completed, released.set)
    request.set_callback(completed, None)
    return released
