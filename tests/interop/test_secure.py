"""A TLS that is not gRPC's core: grpc-js, with certificates and tokens, on both transports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from headrace.server.security.scopes import Scope
from tests import models
from tests.e2e.authority import Authority
from tests.e2e.people import People
from tests.e2e.serving import Serve, Served
from tests.interop.inferences import (
    CHECK,
    INFER,
    MODEL_INFER,
    STREAM,
    Event,
    events,
    frame,
    infer,
    infer_answer,
    model_infer,
    model_infer_answer,
)
from tests.interop.remote import Library, Metadata, Remote

STATUS = "/headrace.v1.Inference/ServerStatus"


@pytest.fixture(params=["aio", "completion-queue"])
def secure(request: pytest.FixtureRequest, serve: Serve, tmp_path: Path) -> Iterator[tuple[Served, Remote, str]]:
    """A server with mutual TLS, a client of it, and the token of somebody who may infer."""
    library = Library.named("node")
    authority, people = Authority(tmp_path / "ca"), People(tmp_path / "identities.toml")
    token = people.add("camera", Scope.INFER)
    options = [*authority.options("server", "127.0.0.1"), f"--tls-ca={authority.file}", f"--identities={people.file}"]
    served = serve(models.scale(tmp_path), *options, f"--transport={request.param}")
    certificate, key = authority.issue("client", "client.example")
    with library.connect_securely(served.address, authority.file, key, certificate) as client:
        yield served, client, token
    assert served.stop() == 0
    assert " ERROR " not in served.log


def test_calls_and_streams_go_through_where_they_may(secure: tuple[Served, Remote, str]) -> None:
    _, client, token = secure
    headers: Metadata = {"authorization": f"Bearer {token}"}
    assert client.unary(CHECK, b"").reply()
    assert infer_answer(client.unary(INFER, infer(4), metadata=headers).reply()) == 9
    assert model_infer_answer(client.unary(MODEL_INFER, model_infer(5), metadata=headers).reply()) == 11
    stream = client.stream(STREAM, metadata=headers)
    ((hello,), _) = events(stream.receive())
    assert hello.kind == Event.HELLO
    stream.send(frame(1, define=True))
    stream.half_close()
    assert stream.end() == (grpc.StatusCode.OK, "")
    refused: list[tuple[str, Metadata, grpc.StatusCode]] = [
        (INFER, {}, grpc.StatusCode.UNAUTHENTICATED),
        (INFER, {"authorization": "Bearer x"}, grpc.StatusCode.UNAUTHENTICATED),
        (STATUS, headers, grpc.StatusCode.PERMISSION_DENIED),
    ]
    for path, metadata, code in refused:
        assert client.unary(path, b"", metadata=metadata).ended().code is code
