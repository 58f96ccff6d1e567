"""Errors that the client makes itself. Pure."""

from __future__ import annotations

from headrace.wire.errors import HeadraceError, Internal, rebuild


def broken_contract(error: HeadraceError) -> Internal:
    """The error for a message that the server must not send."""
    return Internal(f"the server broke the protocol: {error.message}")


def copy_error(error: HeadraceError) -> HeadraceError:
    """The same error as a new exception.

    A single exception, raised in several tasks, would collect their tracebacks and keep alive everything in them.
    """
    return rebuild(error.code, error.message, error.retryable, error.retry_after)
