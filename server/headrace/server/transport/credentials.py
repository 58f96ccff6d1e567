"""TLS, as gRPC takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import grpc

from headrace.server.security.certificates import Certificates

_NAMES = ("x509_subject_alternative_name", "x509_common_name")
CurrentCertificates: TypeAlias = Callable[[], Certificates]
"""The certificates for a connection that begins now; it may be asked on any thread, for each of them."""


def server_credentials(current: CurrentCertificates) -> grpc.ServerCredentials:
    """Credentials for one port: gRPC asks for the certificates at each handshake, and takes what is new."""
    given = current()

    def newer() -> Any:
        nonlocal given
        latest = current()
        if latest is given:
            return None  # what there is stays
        given = latest
        return _configuration(latest)

    mutual = given.ca is not None
    return grpc.dynamic_ssl_server_credentials(_configuration(given), newer, require_client_authentication=mutual)


def names_of(connection: Mapping[str, Iterable[bytes]]) -> Sequence[str]:
    """The names in the certificate of a client, from what gRPC knows of its connection; none if it has shown none."""
    return [name.decode("utf-8", "replace") for key in _NAMES for name in connection.get(key, ())]


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(certificates.key, certificates.certificate)], certificates.ca)
