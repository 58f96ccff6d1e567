"""Limits that the core never exceeds."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.wire.limits import MAX_PRIORITY


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and seconds; `window` in tickets, `sequences` in live ones.

    `max_queue` tickets may wait for the slots of a model, and each of them `max_queue_seconds`; 0 for no bound.
    `stream_seconds`: the age at which a stream is asked to move, at the latest; 0 for never.
    `processors`: how many threads compute at once, which models share; 0 where they do not wait for each other.
    """

    window: int = 1024
    max_queue: int = 0
    max_queue_seconds: float = 0.0
    memory: int = 4 << 30
    max_message_bytes: int = 64 << 20
    queue_bytes: int = 1 << 30
    unsent_bytes: int = 64 << 20
    keep_bytes: int = 256 << 20
    keep_bytes_total: int = 1 << 30
    keep_seconds: float = 300.0
    sequences: int = 4096
    sequence_bytes: int = 1 << 30
    grace: float = 30.0
    stream_seconds: float = 0.0
    max_priority: int = MAX_PRIORITY
    batch_delay: float = 0.0
    coalesce: bool = False
    processors: int = 0
