"""Certificates, made for a test."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from headrace.client import Tls

LONG_AGO = datetime.now(UTC) - timedelta(days=30)
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


class Authority:
    """A CA, whose files are in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str, *hosts: str, common_name: str | None = None, expired: bool = False) -> tuple[Path, Path]:
        """Files of a certificate for these hosts, and of its key."""
        start, end = (LONG_AGO, YESTERDAY) if expired else (None, None)
        issued = self._ca.issue_cert(*hosts, common_name=common_name, not_before=start, not_after=end)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        replace(certificate, b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        replace(key, issued.private_key_pem.bytes())
        key.chmod(0o600)
        return certificate, key

    def options(self, name: str, *hosts: str, expired: bool = False) -> list[str]:
        """Options of a server with a certificate for these hosts."""
        certificate, key = self.issue(name, *hosts, expired=expired)
        return [f"--tls-cert={certificate}", f"--tls-key={key}"]

    def client(self, *hosts: str, expired: bool = False) -> Tls:
        """What a client shows that has a certificate for these names, and trusts this CA."""
        certificate, key = self.issue("client-" + "-".join(hosts), *hosts, expired=expired)
        return Tls(ca=self.file, certificate=certificate, key=key)


def replace(path: Path, content: bytes) -> None:
    """Replace a file in one step."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, path)
