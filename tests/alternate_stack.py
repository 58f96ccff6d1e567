"""The stack on which a thread runs handlers of signals, if it has been given one of its own."""

from __future__ import annotations

import ctypes
import sys

SS_DISABLE = 2


class _Stack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("nbytes", ctypes.c_size_t))


def remove_alternate_stack() -> None:
    """Let this thread run them on its ordinary stack.

    OpenVINO's CPU plugin gives a stack to the thread that loads it, and unmaps it when it is freed. It takes it back
    only if the same thread frees it, and what was loaded last is freed first. The next signal would end the process.
    """
    if sys.platform == "linux":
        assert ctypes.CDLL(None).sigaltstack(ctypes.byref(_Stack(None, SS_DISABLE, 0)), None) == 0
