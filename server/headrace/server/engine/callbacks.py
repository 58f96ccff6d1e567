"""The callback of an InferRequest, and how to know that the runtime has let go of it."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable
from threading import Event

import openvino as ov

_thread = threading.local()
"""Belongs to the state that Python has for a thread: what is in it is lost with that."""


def call_back(request: ov.InferRequest, on_completed: Callable[[], None]) -> Event:
    """Make the runtime call `on_completed` after each run, on a thread of its own.

    The event is set when the runtime has released the callback, and with it what `on_completed` refers to.
    """

    def completed(_: object) -> None:
        if not hasattr(_thread, "has_state"):
            _keep_thread_state()
        on_completed()

    released = Event()
    weakref.finalize(completed, released.set)
    request.set_callback(completed, None)
    return released


def _keep_thread_state() -> None:
    """Keep the state that Python has for this thread until the thread ends, or the process.

    The runtime's threads are not Python's. Each callback would make a state and delete it, and with it map memory and
    unmap it, which interrupts the other processors: an asynchronous run took 91 us of the processor more than its own
    time, and takes 54.
    """
    ctypes.pythonapi.PyGILState_Ensure()
    _thread.has_state = True
