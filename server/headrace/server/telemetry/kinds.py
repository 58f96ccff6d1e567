"""What makes two errors ones of a kind: their class and the line that raised them. So there are finitely many kinds."""

from __future__ import annotations

from typing import TypeAlias

ErrorKind: TypeAlias = tuple[type[BaseException], str, int]


def error_kind(error: BaseException) -> ErrorKind:
    trace = error.__traceback__
    if trace is None:
        return type(error), "", 0
    while trace.tb_next is not None:
        trace = trace.tb_next
    return type(error), trace.tb_frame.f_code.co_filename, trace.tb_lineno
