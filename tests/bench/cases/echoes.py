"""The echo as a reference."""

from __future__ import annotations

from tests.bench.cases.case import Reference, Setting
from tests.bench.measuring.client_turn import client_turn
from tests.bench.measuring.turn import RATE, Figure, Turn
from tests.bench.references.echo import STREAM, UNARY

MESSAGE_BYTES = 2 * 64 + 32
"""As large as an add/multiply request: two tensors and their names."""


def echoed_stream(window: int, figure: Figure = RATE) -> Reference:
    """grpc.aio at both ends."""

    def turn(setting: Setting) -> Turn:
        echo = setting.echo
        client = "clients.echo_stream"
        return client_turn(client, echo.address, setting.seconds, pid=echo.pid, window=window, bytes=MESSAGE_BYTES)

    return Reference("grpc.aio echo", turn, figure=figure, echo_in_flight=window)


def raw_echo(kind: str, message: bytes, in_flight: int, processes: int) -> Reference:
    """grpc.aio in the server only: `unary` calls or one `stream` for each process, with the client of the case."""

    def turn(setting: Setting) -> Turn:
        return client_turn(
            f"clients.raw_{kind}",
            setting.echo.address,
            setting.seconds,
            pid=setting.echo.pid,
            processes=processes,
            method=UNARY if kind == "unary" else STREAM,
            message=message.hex(),
            answer=message.hex(),
            in_flight=in_flight // processes,
        )

    return Reference(f"grpc.aio {kind} echo", turn)
