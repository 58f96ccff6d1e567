"""Who may call, put together from the options: what is read from files at the start, and again when they change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from headrace.server.core.clients import ClientLimits
from headrace.server.security.certificates import Certificates, certificate_files, follow_certificates
from headrace.server.security.guard import CertificateGuard, Guard, TokenGuard
from headrace.server.security.identities import Identities, read_identities
from headrace.server.security.reloaded_files import ReloadedFiles, UnusableFileError
from headrace.server.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Access:
    """`certificates` is None for a server in plain text, `guard` for one that everybody may call."""

    certificates: ReloadedFiles[Certificates] | None
    identities: ReloadedFiles[Identities] | None
    guard: Guard | None

    @property
    def current_certificates(self) -> Callable[[], Certificates] | None:
        """Returns those for a connection that begins now."""
        certificates = self.certificates
        return None if certificates is None else lambda: certificates.current

    def warn_of_exposure(self, address: str) -> None:
        """Say what others can do who reach this address, which is not on this machine alone."""
        if self.certificates is None and self.guard is None:
            logger.warning(
                "whoever reaches %s may call this server and read what others send; see --tls-cert and --identities",
                address,
            )
        elif self.certificates is None:
            logger.warning("what is sent to %s, tokens too, can be read on the way; see --tls-cert", address)
        elif self.guard is None and self.certificates.current.ca is None:
            logger.warning("whoever reaches %s may call this server; see --identities and --tls-ca", address)

    def start(self, changed: Callable[[], None], other_certificates: Callable[[], None] | None = None) -> None:
        """Follow changes of the files. `changed` is called, on another thread, when there are other identities."""
        if self.certificates is not None:
            self.certificates.start(other_certificates)
        if self.identities is not None:
            self.identities.start(changed)

    def read_again(self) -> None:
        """Read the files, whether or not they have changed; what cannot be used is logged, and stays as it was."""
        for files in (self.certificates, self.identities):
            if files is not None:
                files.read_again()

    def stop(self) -> None:
        for files in (self.certificates, self.identities):
            if files is not None:
                files.stop()


def read_access(settings: Settings) -> Access:
    """Raises UnusableFileError."""
    files = certificate_files(settings.tls_cert, settings.tls_key, settings.tls_ca)
    certificates = None if files is None else follow_certificates(files)
    if files is not None and files.key_is_open:
        logger.warning("every user of this machine may read the key in %s", files.key)
    identities = _follow_identities(settings)
    return Access(certificates, identities, _guard(settings, identities))


def _follow_identities(settings: Settings) -> ReloadedFiles[Identities] | None:
    path = settings.identities
    if path is None:
        return None
    return ReloadedFiles("identities", [path], lambda: read_identities(path, _limits(settings), settings.workers))


def _guard(settings: Settings, identities: ReloadedFiles[Identities] | None) -> Guard | None:
    open_health = settings.health == "open"
    read = None if identities is None else lambda: identities.current
    if settings.identity_from == "certificate":
        if settings.tls_ca is None:
            raise UnusableFileError("--identity-from certificate needs --tls-ca: without it clients show none")
        return CertificateGuard(read, _limits(settings).share(settings.workers), open_health=open_health)
    return None if read is None else TokenGuard(read, open_health=open_health)


def _limits(settings: Settings) -> ClientLimits:
    """Those of identities that have none of their own."""
    return ClientLimits(
        settings.identity_rate, settings.identity_burst, settings.identity_tickets, settings.identity_bytes
    )
