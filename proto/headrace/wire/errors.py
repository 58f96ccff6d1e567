"""Every error that crosses the wire.

    HeadraceError
    ├── Cancelled            CANCELLED            the client cancelled the ticket
    ├── InvalidArgument      INVALID_ARGUMENT     content: names, datatypes, shapes, sizes
    ├── DeadlineExceeded     DEADLINE_EXCEEDED    the ticket's timeout has passed
    ├── NotFound             NOT_FOUND            no such model, version or kept output
    ├── PermissionDenied     PERMISSION_DENIED
    ├── ResourceExhausted    RESOURCE_EXHAUSTED   window, budgets and quotas (retryable), message size (not)
    ├── FailedPrecondition   FAILED_PRECONDITION  a reference to what is not kept, or whose ticket failed
    ├── Unimplemented        UNIMPLEMENTED
    ├── Internal             INTERNAL             the server's fault; the message holds an id for its log
    ├── Unavailable          UNAVAILABLE          loading, draining, stopped or out of reach (retryable)
    └── Unauthenticated      UNAUTHENTICATED

The server raises and sends them; the client rebuilds the same class from the code. A message names what is wrong and
never holds a path or another exception's text.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Code(IntEnum):
    """The codes of `headrace.v1.Code`, which are those of gRPC."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class HeadraceError(Exception):
    """An error with a code of the wire. `retryable`: the same command may succeed later."""

    code: ClassVar[Code] = Code.INTERNAL
    retryable: bool = False

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        if retryable is not None:
            self.retryable = retryable


class Cancelled(HeadraceError):
    code = Code.CANCELLED


class InvalidArgument(HeadraceError):
    code = Code.INVALID_ARGUMENT


class DeadlineExceeded(HeadraceError):
    code = Code.DEADLINE_EXCEEDED


class NotFound(HeadraceError):
    code = Code.NOT_FOUND


class PermissionDenied(HeadraceError):
    code = Code.PERMISSION_DENIED


class ResourceExhausted(HeadraceError):
    code = Code.RESOURCE_EXHAUSTED
    retryable = True


class FailedPrecondition(HeadraceError):
    code = Code.FAILED_PRECONDITION


class Unimplemented(HeadraceError):
    code = Code.UNIMPLEMENTED


class Internal(HeadraceError):
    code = Code.INTERNAL


class Unavailable(HeadraceError):
    code = Code.UNAVAILABLE
    retryable = True


class Unauthenticated(HeadraceError):
    code = Code.UNAUTHENTICATED


_CLASSES: dict[int, type[HeadraceError]] = {
    cls.code: cls
    for cls in (
        Cancelled,
        InvalidArgument,
        DeadlineExceeded,
        NotFound,
        PermissionDenied,
        ResourceExhausted,
        FailedPrecondition,
        Unimplemented,
        Internal,
        Unavailable,
        Unauthenticated,
    )
}


def rebuild(code: int, message: str, retryable: bool) -> HeadraceError:
    """The error that the other side raised. A code that is not known here becomes Internal."""
    return _CLASSES.get(code, Internal)(message, retryable=retryable)


def quote(name: object, most: int = 80) -> str:
    """A name from outside as a message may show it: printable, in quotes, and never long.

    An error message is memory that the client decides on; a name of a megabyte must not come back a thousand times.
    """
    text = repr(name[: most + 1] if isinstance(name, str) else name)
    return text if len(text) <= most else text[: most - 4] + "..." + text[0]
