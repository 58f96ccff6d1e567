"""Files of certificates: what fits together, what is wrong with what does not, and who may read a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.server.security.certificates import CertificateFiles, certificate_files, follow_certificates
from headrace.server.security.reloaded_files import UnusableFileError
from tests.e2e.authority import Authority

CERT, KEY, CA = Path("cert"), Path("key"), Path("ca")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def test_options_that_fit_together_are_files() -> None:
    assert certificate_files(None, None, None) is None
    assert certificate_files(CERT, KEY, None) == CertificateFiles(CERT, KEY)
    assert certificate_files(CERT, KEY, CA) == CertificateFiles(CERT, KEY, CA)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((CERT, None, None), "--tls-cert needs --tls-key: a certificate and its key belong together"),
        ((None, KEY, None), "--tls-key needs --tls-cert: a certificate and its key belong together"),
        ((None, KEY, CA), "--tls-key needs --tls-cert: a certificate and its key belong together"),
        ((None, None, CA), "--tls-ca needs --tls-cert and --tls-key: without them nothing is encrypted"),
    ],
)
def test_options_that_do_not_are_told(options: tuple[Path | None, Path | None, Path | None], sentence: str) -> None:
    with pytest.raises(UnusableFileError) as refused:
        certificate_files(*options)
    assert str(refused.value) == sentence


def test_what_is_read_is_what_the_files_hold(authority: Authority) -> None:
    certificate, key = authority.issue("right", "a.example")
    found = CertificateFiles(certificate, key, authority.file).read()
    assert (found.certificate, found.key) == (certificate.read_bytes(), key.read_bytes())
    assert found.ca == authority.file.read_bytes()
    assert key.read_text().splitlines()[1] not in repr(found)


@pytest.mark.parametrize(
    ("cert", "key", "ca", "sentence"),
    [
        ("{cert}", "{other}", None, "the key in {other} does not belong to the certificate in {cert}"),
        ("{key}", "{key}", None, "the certificate in {key} cannot be used: there is no PEM block 'CERTIFICATE'"),
        ("{cert}", "{cert}", None, "the key in {cert} cannot be used: there is no PEM block 'PRIVATE KEY'"),
        ("/no.pem", "{key}", None, "the certificate in /no.pem cannot be read: No such file or directory"),
        ("{cert}", "/no.pem", None, "the key in /no.pem cannot be read: No such file or directory"),
        ("{folder}", "{key}", None, "the certificate in {folder} cannot be read: Is a directory"),
        ("{cert}", "{locked}", None, "the key in {locked} cannot be used: it is encrypted"),
        (
            "{cert}",
            "{key}",
            "{key}",
            "the CA certificates in {key} cannot be used: there is no PEM block 'CERTIFICATE'",
        ),
        ("{cert}", "{key}", "{broken}", "the CA certificates in {broken} cannot be used: "),
        ("{broken}", "{key}", None, "the certificate in {broken} and the key in {key} cannot be used: "),
    ],
)
def test_what_is_wrong_is_named(
    authority: Authority, tmp_path: Path, cert: str, key: str, ca: str | None, sentence: str
) -> None:
    right, right_key = authority.issue("right", "a.example")
    _, other = authority.issue("other", "b.example")
    locked, broken = tmp_path / "locked.key", tmp_path / "broken.pem"
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIC\n-----END ENCRYPTED PRIVATE KEY-----\n")
    broken.write_text("-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n")
    names = {"cert": right, "key": right_key, "other": other, "locked": locked, "broken": broken, "folder": tmp_path}
    paths = [Path(text.format(**names)) for text in (cert, key)]
    files = CertificateFiles(paths[0], paths[1], None if ca is None else Path(ca.format(**names)))
    with pytest.raises(UnusableFileError) as refused:
        files.read()
    assert str(refused.value).startswith(sentence.format(**names))
    assert "\n" not in str(refused.value)


def test_a_key_is_open_if_everybody_may_read_it(authority: Authority) -> None:
    certificate, key = authority.issue("open", "a.example")
    for mode, is_open in ((0o600, False), (0o640, False), (0o644, True)):
        key.chmod(mode)
        assert CertificateFiles(certificate, key).key_is_open == is_open


def test_a_pair_is_taken_when_both_halves_are_there(authority: Authority, tmp_path: Path) -> None:
    pairs = [[path.read_bytes() for path in authority.issue(name, "a.example")] for name in ("first", "second")]
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(pairs[0][0])
    key.write_bytes(pairs[0][1])
    followed = follow_certificates(CertificateFiles(certificate, key))
    first = followed.current
    certificate.write_bytes(pairs[1][0])
    for _ in range(3):
        followed.look()
    assert followed.current is first
    key.write_bytes(pairs[1][1])
    for _ in range(2):
        followed.look()
    assert [followed.current.certificate, followed.current.key] == pairs[1]
