"""The errors of streams that are resumed. Each says what happened, and what to do. Pure."""

from __future__ import annotations

from headrace.client.resuming.entry import Entry
from headrace.wire.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    HeadraceError,
    Internal,
    NotFound,
    quote,
)


def poisonous(breaks: int) -> Internal:
    return Internal(
        f"the stream broke {breaks} times while this was in flight, the last time with nothing else: it may be what "
        "ends the server, and is not sent again"
    )


def cancelled() -> Cancelled:
    return Cancelled("the client cancelled the ticket")


def expired() -> DeadlineExceeded:
    return DeadlineExceeded("the timeout passed while the stream was not connected")


def unknown_reference(tag: int, output: str, keep_seconds: float) -> FailedPrecondition:
    return FailedPrecondition(_not_kept(tag, output, keep_seconds))


def unknown_fetch(tag: int, output: str, keep_seconds: float) -> NotFound:
    return NotFound(_not_kept(tag, output, keep_seconds))


def _not_kept(tag: int, output: str, keep_seconds: float) -> str:
    return (
        f"output {quote(output)} of ticket {tag} is not kept: its ticket failed, another ticket took it, or nothing "
        f"used it for the keep time of {keep_seconds:g} s; submit its inference again"
    )


def source_failed(source: Entry, output: str, *, fetch: bool) -> HeadraceError:
    """The error for what needs an output of an entry that failed, or whose outputs cannot be made again."""
    kind = NotFound if fetch else FailedPrecondition
    start = f"output {quote(output)} of ticket {source.tag} is not available"
    if source.lost is not None:
        return kind(f"{start}: {source.lost.message}")
    assert source.error is not None
    return kind(f"{start}: the ticket ended with {source.error.code.name}")


def not_repeated(error: HeadraceError) -> FailedPrecondition:
    return FailedPrecondition(
        f"the server that kept it is gone, and its inference could not be repeated ({error.message}); submit it again"
    )


def other_model(entry: Entry, fingerprint: int) -> FailedPrecondition:
    return FailedPrecondition(
        f"the stream was resumed at a server whose model {quote(entry.asked.model)} version {entry.bound} has other "
        f"files (fingerprint {fingerprint:016x}, before {entry.fingerprint:016x}), and results of both are never "
        "mixed; start again from the first inference"
    )


def version_gone(entry: Entry, error: HeadraceError) -> FailedPrecondition:
    return FailedPrecondition(
        f"its inputs were made by version {entry.bound} of model {quote(entry.asked.model)}, which the server at which "
        f"the stream was resumed does not serve ({error.message}); start again from the first inference"
    )


def not_checkpointed(entry: Entry, why: str) -> FailedPrecondition:
    names = ", ".join(map(quote, entry.asked.keep))
    return FailedPrecondition(
        f"a kept output ({names}) is too large for a checkpoint, which a stream with resume=True takes of long chains "
        f"({why}); raise max_message_bytes of connect, or use a stream without resume"
    )


def named_otherwise(entry: Entry) -> FailedPrecondition:
    names = ", ".join(map(quote, entry.asked.keep))
    return FailedPrecondition(
        f"what is kept ({names}) has another name among the outputs or the inputs, so that a stream with resume=True "
        "cannot take a checkpoint of it; give both the same name, the one that the model shows"
    )
