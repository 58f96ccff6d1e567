"""Streams, without `await`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

from headrace.client.aio import stream as async_stream
from headrace.client.aio.ordered_map import AHEAD, Errors, Item
from headrace.client.blocking.background_loop import settle, tell_later, wait
from headrace.client.blocking.ticket import Ticket
from headrace.client.protocol.hello import Hello
from headrace.client.protocol.inputs import Inputs
from headrace.client.protocol.layouts import Outputs

T = TypeVar("T")


class Stream:
    """Many inferences on one connection; made by `Server.stream`."""

    def __init__(self, stream: async_stream.Stream) -> None:
        self._stream = stream

    def __enter__(self) -> Stream:
        try:
            wait(self._stream.__aenter__())
        except BaseException:
            # Ctrl-C may come when the stream has just been opened.
            tell_later(self._stream._abandon)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        settle(partial(self._stream.__aexit__, kind, error, trace))

    def submit(
        self,
        model: str,
        inputs: Inputs,
        *,
        outputs: Iterable[str] | None = None,
        keep: Iterable[str] = (),
        keep_inputs: Iterable[str] = (),
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> Ticket:
        """Queue one inference and return its ticket. Waits while the window is full.

        Arguments and errors are those of `headrace.client.Stream.submit`.
        """
        submitted = self._stream.submit(
            model,
            inputs,
            outputs=outputs,
            keep=keep,
            keep_inputs=keep_inputs,
            version=version,
            timeout=timeout,
            priority=priority,
        )
        return Ticket(wait(submitted))

    @overload
    def map(
        self,
        model: str,
        inputs: Iterable[Item],
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
        errors: Literal["raise"] = "raise",
        with_items: Literal[False] = False,
    ) -> Iterator[Outputs]: ...

    @overload
    def map(
        self,
        model: str,
        inputs: Iterable[Item],
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
        errors: Literal["return"],
        with_items: Literal[False] = False,
    ) -> Iterator[Outputs | Exception]: ...

    @overload
    def map(
        self,
        model: str,
        inputs: Iterable[Item],
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
        errors: Literal["raise"] = "raise",
        with_items: Literal[True],
    ) -> Iterator[tuple[Item, Outputs]]: ...

    @overload
    def map(
        self,
        model: str,
        inputs: Iterable[Item],
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
        errors: Literal["return"],
        with_items: Literal[True],
    ) -> Iterator[tuple[Item, Outputs | Exception]]: ...

    @overload
    def map(
        self,
        model: str,
        inputs: Iterable[Item],
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
        errors: Errors = "raise",
        with_items: bool = False,
    ) -> Iterator[Any]: ...

    def map(
        self,
        model: str,
        inputs: Iterable[Item],
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
        ahead: int = AHEAD,
        errors: Errors = "raise",
        with_items: bool = False,
    ) -> Iterator[Any]:
        """Run one inference for each item of `inputs`, and yield the outputs in order.

        Arguments and errors are those of `headrace.client.Stream.map`. An iterable other than a list, tuple, set or
        deque is read in a thread of its own.
        """
        results = self._stream.map(
            model,
            inputs,
            outputs=outputs,
            version=version,
            timeout=timeout,
            priority=priority,
            ahead=ahead,
            errors=errors,
            with_items=with_items,
        )
        return _pulled(results)

    @property
    def hello(self) -> Hello:
        """The server's version and limits, as it gave them when the stream was opened."""
        return self._stream.hello

    @property
    def in_flight(self) -> int:
        """The number of tickets in flight, fetches included."""
        return self._stream.in_flight

    @property
    def full(self) -> bool:
        """Whether `submit` would wait now: for the window, or because too many bytes wait to be sent."""
        return self._stream.full

    @property
    def draining(self) -> bool:
        """Whether the stream ends on its server's side; a stream with `resume` goes on elsewhere by itself.

        A server that stops refuses new inferences (Unavailable) from then on. One that asks the stream to move does so
        after its grace period. Everything else goes on until the stream is left: open another for what is new.
        """
        return self._stream.draining

    def __repr__(self) -> str:
        return repr(self._stream)


def _pulled(results: AsyncGenerator[T, None]) -> Iterator[T]:
    try:
        while True:
            try:
                result = wait(anext(results))
            except StopAsyncIteration:
                return
            yield result
    finally:
        settle(results.aclose)
