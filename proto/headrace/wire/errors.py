"""Every error that crosses the wire.

    HeadraceError
    ├── Cancelled            CANCELLED            the client cancelled the ticket
    ├── InvalidArgument      INVALID_ARGUMENT     content: names, datatypes, shapes, sizes
    ├── DeadlineExceeded     DEADLINE_EXCEEDED    the ticket's timeout has passed
    ├── NotFound             NOT_FOUND            no such model, version or kept output
    ├── PermissionDenied     PERMISSION_DENIED
    ├── ResourceExhausted    RESOURCE_EXHAUSTED   window, queue, budgets, limits (retryable), message size (not)
    ├── FailedPrecondition   FAILED_PRECONDITION  a reference to an output that is not kept, or whose ticket failed;
    │                                             a request of a sequence that is not live
    ├── Unimplemented        UNIMPLEMENTED
    ├── Internal             INTERNAL             a fault of the server; the message holds an id to find in its log
    ├── Unavailable          UNAVAILABLE          loading, draining, stopped or unreachable (retryable)
    └── Unauthenticated      UNAUTHENTICATED

The server raises and sends them; the client rebuilds the same class from the code. A message names what is wrong. It
never holds a path or the text of another exception.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from itertools import islice
from typing import ClassVar


class Code(IntEnum):
    """The codes of `headrace.v1.Code`, which equal gRPC's."""

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
    """An error with a code. `retryable`: the same command may succeed later.

    `incident` is the id under which the server's log has the details. Clients find it in the message.
    `retry_after`: in how many seconds, if that is known.
    """

    code: ClassVar[Code] = Code.INTERNAL
    retryable: bool = False
    incident: str = ""
    retry_after: float | None = None

    def __init__(self, message: str, *, retryable: bool | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
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


def rebuild(code: int, message: str, retryable: bool, retry_after: float | None = None) -> HeadraceError:
    """The error that the other side raised. An unknown code becomes Internal."""
    return _CLASSES.get(code, Internal)(message, retryable=retryable, retry_after=retry_after)


def forget_frames(error: BaseException) -> None:
    """Drop what an error knows of the frames that it went through, once it has been told and logged.

    They refer to messages and tensors, and often to what refers to the error. Only the garbage collector would free
    such a circle, and it counts objects, not bytes.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None


def quote(name: object, most: int = 80) -> str:
    """A name from outside, safe to show in a message: printable, in quotes, and at most `most` characters long.

    The client decides how long a name is. A name of a megabyte must not come back in a thousand error messages.
    """
    text = repr(name[: most + 1] if isinstance(name, str) else name)
    return text if len(text) <= most else text[: most - 4] + "..." + text[0]


MAX_LISTED = 8


def listed(names: Iterable[str], count: int) -> str:
    """The first of `count` names, as `quote` shows them, and how many more there are. Bounded, as a message must be."""
    text = ", ".join(quote(name, 40) for name in islice(names, MAX_LISTED))
    return text + (f" and {count - MAX_LISTED} more" if count > MAX_LISTED else "")
