"""The certificates that a server shows, and those that it trusts, from files in PEM."""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path

from headrace.server.security.reloaded_files import ReloadedFiles, UnusableFileError, read_file


@dataclass(frozen=True, slots=True)
class Certificates:
    """In PEM. `ca` is what signs the certificates that clients must show; None if they need none."""

    certificate: bytes
    key: bytes = field(repr=False)
    ca: bytes | None


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where they are."""

    certificate: Path
    key: Path
    ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.certificate, self.key) if self.ca is None else (self.certificate, self.key, self.ca)

    @property
    def key_is_open(self) -> bool:
        """Whether every user of this machine may read the key."""
        return bool(os.stat(self.key).st_mode & stat.S_IROTH)

    def read(self) -> Certificates:
        """Read and check them. Raises UnusableFileError."""
        found = self._contents()
        for path, content, what, label in (
            (self.certificate, found.certificate, "certificate", b"CERTIFICATE"),
            (self.key, found.key, "key", b"PRIVATE KEY"),
            (self.ca, found.ca, "CA certificates", b"CERTIFICATE"),
        ):
            if content is not None and (b"-----BEGIN " not in content or label + b"-----" not in content):
                raise UnusableFileError(
                    f"the {what} in {path} cannot be used: there is no PEM block {label.decode()!r}"
                )
        if b"ENCRYPTED" in found.key:
            raise UnusableFileError(f"the key in {self.key} cannot be used: it is encrypted")
        self._check_pair()
        if found.ca is not None:
            _check_ca(found.ca, self.ca)
        # The pair was checked in the files: what is served must be the same.
        if found != self._contents():
            raise UnusableFileError(f"the certificate in {self.certificate} or its key is being written")
        return found

    def _contents(self) -> Certificates:
        return Certificates(
            read_file(self.certificate, "certificate"),
            read_file(self.key, "key"),
            None if self.ca is None else read_file(self.ca, "CA certificates"),
        )

    def _check_pair(self) -> None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, _no_passphrase)
        except (ssl.SSLError, OSError) as error:
            if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
                raise UnusableFileError(
                    f"the key in {self.key} does not belong to the certificate in {self.certificate}"
                ) from None
            raise UnusableFileError(
                f"the certificate in {self.certificate} and the key in {self.key} cannot be used: {_reason(error)}"
            ) from None


def _check_ca(ca: bytes, path: Path | None) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=ca.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError) as error:
        raise UnusableFileError(f"the CA certificates in {path} cannot be used: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason).replace("_", " ").lower() if reason else "they are not valid"


def _no_passphrase() -> str:
    """The terminal is not asked for one."""
    return ""


def certificate_files(certificate: Path | None, key: Path | None, ca: Path | None) -> CertificateFiles | None:
    """The files of these options; None if there are none. Raises UnusableFileError for what does not fit together."""
    if certificate is not None and key is not None:
        return CertificateFiles(certificate, key, ca)
    if certificate is not None or key is not None:
        there, missing = ("--tls-cert", "--tls-key") if key is None else ("--tls-key", "--tls-cert")
        raise UnusableFileError(f"{there} needs {missing}: a certificate and its key belong together")
    if ca is not None:
        raise UnusableFileError("--tls-ca needs --tls-cert and --tls-key: without them nothing is encrypted")
    return None


def follow_certificates(files: CertificateFiles) -> ReloadedFiles[Certificates]:
    """The certificates in these files, and later in what replaces them. Raises UnusableFileError."""
    return ReloadedFiles("certificates", files.paths, files.read)
