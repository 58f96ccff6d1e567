"""`connect` and the server, without `await`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from headrace.client.aio import server as async_server
from headrace.client.aio.server import READY_TIMEOUT
from headrace.client.blocking.background_loop import settle, wait
from headrace.client.blocking.stream import Stream
from headrace.client.protocol.connection_settings import (
    CALL_TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_MESSAGE_BYTES,
    RETRIES,
    Metadata,
    Options,
    Tls,
    Token,
)
from headrace.client.protocol.inputs import Inputs
from headrace.client.protocol.layouts import Outputs
from headrace.client.protocol.models import Model, ModelState
from headrace.client.protocol.status import ServerStatus
from headrace.client.transport.resuming_transport import PATIENCE, Resumed


def connect(
    target: str,
    *,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    connect_timeout: float = CONNECT_TIMEOUT,
    timeout: float = CALL_TIMEOUT,
    retries: int = RETRIES,
    tls: bool | str | Path | bytes | Tls | None = None,
    token: Token | None = None,
    plain_token: bool = False,
    metadata: Metadata = (),
    options: Options = (),
) -> Server:
    """Like `headrace.client.connect`. Use it in `with`, or close it with `close()`."""
    return Server(
        async_server.connect(
            target,
            max_message_bytes=max_message_bytes,
            connect_timeout=connect_timeout,
            timeout=timeout,
            retries=retries,
            tls=tls,
            token=token,
            plain_token=plain_token,
            metadata=metadata,
            options=options,
        )
    )


class Server:
    """A connection to a server; made by `connect`."""

    def __init__(self, server: async_server.Server) -> None:
        self._server = server

    @property
    def target(self) -> str:
        """The address that `connect` was given."""
        return self._server.target

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Open streams end, and their tickets in flight fail with Cancelled."""
        settle(self._server.close)

    def models(self, *, timeout: float | None = None) -> list[Model]:
        """The models that are served, sorted by name.

        `timeout`: seconds, connecting and retries included; None is the `timeout` of `connect`, and `math.inf` none.
        Raises Unavailable, DeadlineExceeded.
        """
        return wait(self._server.models(timeout=timeout))

    def model(self, name: str, version: str | int | None = None, *, timeout: float | None = None) -> Model:
        """One model, by default its newest version.

        `timeout` as of `models`. Raises NotFound, Unavailable, DeadlineExceeded.
        """
        return wait(self._server.model(name, version, timeout=timeout))

    def model_states(self, *, timeout: float | None = None) -> list[ModelState]:
        """Every version that the server knows, sorted by name and number, whether it serves or not.

        `timeout` as of `models`. Raises Unavailable, DeadlineExceeded.
        """
        return wait(self._server.model_states(timeout=timeout))

    def load_model(self, name: str, *, timeout: float | None = None) -> None:
        """Load a model from the server's disk, or load it again. What is loaded serves until the new one replaces it.

        Arguments and errors are those of `headrace.client.Server.load_model`.
        """
        wait(self._server.load_model(name, timeout=timeout))

    def unload_model(self, name: str, *, timeout: float | None = None) -> None:
        """Unload all versions of a model; tickets in flight still end. Raises PermissionDenied, NotFound."""
        wait(self._server.unload_model(name, timeout=timeout))

    def status(self, *, timeout: float | None = None) -> ServerStatus:
        """The load of the server at this moment; with several addresses, of one of the servers.

        `timeout` as of `models`. Raises Unavailable, DeadlineExceeded.
        """
        return wait(self._server.status(timeout=timeout))

    def is_ready(self, *, timeout: float = READY_TIMEOUT) -> bool:
        """Whether the server wants work: all its models have been loaded, and it is not about to stop.

        A server that is not reached, or does not answer within `timeout` seconds, is not ready.
        """
        return wait(self._server.is_ready(timeout=timeout))

    def model_is_ready(self, name: str, version: str | int | None = None, *, timeout: float = READY_TIMEOUT) -> bool:
        """Whether a model, or a version of it, can be used. Arguments are those of `headrace.client.Server`."""
        return wait(self._server.model_is_ready(name, version, timeout=timeout))

    def infer(
        self,
        model: str,
        inputs: Inputs,
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> Outputs:
        """Run one inference by itself and return its outputs by name. Raises any HeadraceError."""
        return wait(
            self._server.infer(model, inputs, outputs=outputs, version=version, timeout=timeout, priority=priority)
        )

    def stream(
        self,
        *,
        ordered: bool = False,
        resume: bool = False,
        patience: float = PATIENCE,
        on_resume: Callable[[Resumed], object] | None = None,
    ) -> Stream:
        """A stream, to use in `with`. Entering it raises Unavailable if the server cannot be reached.

        Arguments are those of `headrace.client.Server.stream`; `on_resume` is called on the background thread.
        """
        return Stream(self._server.stream(ordered=ordered, resume=resume, patience=patience, on_resume=on_resume))

    def __repr__(self) -> str:
        return repr(self._server)
