"""Operations that cannot be guarded, so that their models are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import openvino as ov

from headrace.wire.errors import FailedPrecondition, quote


def refuse(node: ov.Node, _emptied: list[int]) -> NoReturn:
    raise FailedPrecondition(
        f"{node.get_type_name()} {quote(node.get_friendly_name())} may get an empty tensor from data,"
        " and the runtime answers that with an earlier run's result"
    )


def only_first(guard: Callable[[ov.Node, list[int]], None]) -> Callable[[ov.Node, list[int]], None]:
    """Refuse the operation if any input but the first may be empty; else apply the guard."""

    def guarded(node: ov.Node, emptied: list[int]) -> None:
        (guard if emptied == [0] else refuse)(node, emptied)

    return guarded
