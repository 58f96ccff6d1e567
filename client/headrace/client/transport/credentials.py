"""What a connection proves itself with: files of certificates, tokens, and metadata."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import grpc

from headrace.client.protocol.connection_settings import ConnectionSettings, Tls, check_token
from headrace.client.transport.trace_context import TRACE_PARENT, trace_metadata


def read_tls(tls: bool | str | Path | bytes | Tls | None) -> Tls | None:
    """What was given, with the contents of its files; None for a connection in plain text.

    Raises ValueError for what cannot be read, is not PEM, or does not belong together.
    """
    if tls is None or tls is False:
        return None
    if tls is True:
        return Tls()
    given = tls if isinstance(tls, Tls) else Tls(ca=tls)
    if (given.certificate is None) != (given.key is None):
        raise ValueError("tls has a certificate without a key, or a key without a certificate")
    return replace(
        given,
        ca=_read(given.ca, "CA certificates", b"CERTIFICATE"),
        certificate=_read(given.certificate, "certificate", b"CERTIFICATE"),
        key=_read(given.key, "key", b"PRIVATE KEY"),
    )


def _read(source: str | Path | bytes | None, what: str, label: bytes) -> bytes | None:
    if source is None:
        return None
    where = ""
    if not isinstance(source, bytes):
        where = f" in {source}"
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            raise ValueError(f"the {what}{where} cannot be read: {error.strerror or error}") from None
    if b"-----BEGIN " not in source or label not in source:
        raise ValueError(f"the {what}{where} cannot be used: there is no PEM block {label.decode()!r}")
    return source


def channel_credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(_bytes(tls.ca), _bytes(tls.key), _bytes(tls.certificate))


def _bytes(content: str | Path | bytes | None) -> bytes | None:
    assert content is None or isinstance(content, bytes), "read_tls has read the files"
    return content


def call_metadata(settings: ConnectionSettings) -> tuple[tuple[str, str | bytes], ...]:
    """The metadata of a call, with the token and the trace of this moment.

    Raises what a callable raises, TypeError, ValueError.
    """
    token, metadata = settings.token, settings.metadata
    if (trace := trace_metadata()) and not any(key == TRACE_PARENT for key, _ in metadata):
        metadata = (*metadata, *trace)
    if token is None:
        return metadata
    text = check_token(token if isinstance(token, str) else token())
    return (*metadata, ("authorization", f"Bearer {text}"))
