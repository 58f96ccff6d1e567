"""Tokens: made here, so that nobody can guess one, and kept as hashes.

A token is `hr_ID_SECRET`, where the id is random, public, and the salt: it finds the hash, and makes that another one
even for the same secret. The secret has 256 random bits, which no number of guesses finds: a quick hash will do.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

_TOKEN = re.compile(r"hr_([0-9a-f]{16})_[0-9A-Za-z_-]{43}")
_HASH = re.compile(r"sha256:([0-9a-f]{16}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class TokenHash:
    """What a file holds of a token."""

    id: str
    digest: bytes

    def matches(self, token: str) -> bool:
        """Whether this is the token, in a time that does not depend on how much of it is right."""
        return compare_digest(sha256(token.encode()).digest(), self.digest)

    def __str__(self) -> str:
        return f"sha256:{self.id}:{self.digest.hex()}"


def new_token() -> tuple[str, TokenHash]:
    """A token that nobody has, and its hash."""
    id_ = secrets.token_hex(8)
    token = f"hr_{id_}_{secrets.token_urlsafe(32)}"
    return token, TokenHash(id_, sha256(token.encode()).digest())


def id_of(token: str) -> str | None:
    """The id in a token; None if it is none of ours."""
    match = _TOKEN.fullmatch(token)
    return None if match is None else match[1]


def parse_hash(text: str) -> TokenHash:
    """Raises ValueError, which does not show the text: it might be a token."""
    match = _HASH.fullmatch(text)
    if match is None:
        raise ValueError("this is not the hash of a token: headrace-server token prints one")
    return TokenHash(match[1], bytes.fromhex(match[2]))
