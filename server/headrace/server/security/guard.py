"""Who calls, and whether they may: asked once for each call, before anything of it is read."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Protocol

from headrace.server.core.clients import NO_LIMITS, Client, ClientLimits
from headrace.server.security.identities import ALL_SCOPES, Identities, Identity
from headrace.server.security.scopes import SCOPES
from headrace.server.security.tokens import id_of
from headrace.wire.errors import PermissionDenied, Unauthenticated, quote

MAX_IDLE_CLIENTS = 8192
"""Identities that are remembered although they do nothing, for their rates."""
_SCHEME = "bearer "
NO_TOKEN = "this server wants a token, as metadata: authorization: Bearer TOKEN"
BAD_TOKEN = "the token is not valid"
NO_CERTIFICATE = "no name of the client's certificate is one of an identity of this server"


class Caller(Protocol):
    """A call, as far as it says who makes it. `client` is None until that is known."""

    client: Hashable

    def metadata(self) -> Sequence[tuple[str, str | bytes]]: ...
    def certificate_names(self) -> Sequence[str]:
        """The names in the certificate of the client: those of its subject's alternatives, then its common name."""


class Guard(ABC):
    """Lets those calls in that an identity makes which may."""

    def __init__(self, *, open_health: bool, now: Callable[[], float] = time.monotonic) -> None:
        """`now` is the clock of the core."""
        self._open_health = open_health
        self._now = now
        self._clients: dict[str, Client] = {}
        self._most = MAX_IDLE_CLIENTS

    @abstractmethod
    def identify(self, call: Caller) -> Identity:
        """Who makes a call. Raises Unauthenticated."""

    @abstractmethod
    def names(self) -> Collection[str] | None:
        """Those of the identities that can call now; None if a CA decides that."""

    def door(self, path: str) -> Callable[[Caller], Client | None]:
        """What asks a call of an RPC. It returns the client, or None if everybody may call it.

        It raises Unauthenticated and PermissionDenied. Raises KeyError for an RPC without a scope.
        """
        scope = SCOPES[path]
        if scope is None and self._open_health:
            return lambda _call: None
        method = path.rpartition("/")[2]

        def ask(call: Caller) -> Client:
            identity = self.identify(call)
            if scope is not None and scope not in identity.scopes:
                if call.client is None:  # so that the log knows who it was
                    call.client = self._client(identity)
                raise PermissionDenied(
                    f"{quote(identity.name)} may not call {method}: it does not have the scope {scope.value!r}"
                )
            return self._client(identity)

        return ask

    def client_named(self, name: str) -> Client:
        """The client of an identity. Its limits are there once it calls."""
        return self._clients.get(name) or self._add(name, NO_LIMITS)

    def _client(self, identity: Identity) -> Client:
        client = self._clients.get(identity.name)
        if client is None:
            client = self._add(identity.name, identity.limits)
        elif client.limits is not identity.limits:
            client.limits = identity.limits
        return client

    def _add(self, name: str, limits: ClientLimits) -> Client:
        if len(self._clients) >= self._most:
            self._forget_idle()
        client = self._clients[name] = Client(name, limits)
        return client

    def _forget_idle(self) -> None:
        """Forget clients that do nothing: those that gain nothing by it, or else, where these are few, the others too.

        A CA may sign any number of names.
        """
        now = self._now()
        clients = {name: each for name, each in self._clients.items() if not (each.is_idle and each.is_rested(now))}
        if len(clients) > MAX_IDLE_CLIENTS // 2:
            clients = {name: each for name, each in clients.items() if not each.is_idle}
        self._clients = clients
        self._most = max(MAX_IDLE_CLIENTS, 2 * len(clients))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self._clients)} clients>"


class TokenGuard(Guard):
    """Knows identities by their tokens."""

    def __init__(self, identities: Callable[[], Identities], *, open_health: bool) -> None:
        super().__init__(open_health=open_health)
        self._identities = identities
        self._known: dict[str, Identity] = {}
        """By the headers that were right: hashing takes longer. A hash of Python's with a secret key finds them, so
        that the time of a wrong one tells nothing."""
        self._known_of: Identities | None = None

    def identify(self, call: Caller) -> Identity:
        identities = self._identities()
        if identities is not self._known_of:
            self._known, self._known_of = {}, identities
        for key, value in call.metadata():
            if key == "authorization" and isinstance(value, str):
                known = self._known.get(value)
                if known is None:
                    known, token = _identity_of(value, identities)
                    if value == f"Bearer {token}":  # as everybody writes it, so that there is one for each token
                        self._known[value] = known
                return known
        raise Unauthenticated(NO_TOKEN)

    def names(self) -> Collection[str]:
        return {identity.name for _, identity in self._identities().by_token.values()}


def _identity_of(header: str, identities: Identities) -> tuple[Identity, str]:
    """Whose token a header has, and the token. Raises Unauthenticated."""
    if header[: len(_SCHEME)].lower() != _SCHEME:
        raise Unauthenticated(NO_TOKEN)
    token = header[len(_SCHEME) :].strip()
    found = identities.by_token.get(id_of(token) or "")
    if found is None or not found[0].matches(token):
        raise Unauthenticated(BAD_TOKEN)
    return found[1], token


class CertificateGuard(Guard):
    """Knows identities by the names of their certificates.

    Without `identities` there is one for each certificate of the CA, and it may do everything.
    """

    def __init__(
        self,
        identities: Callable[[], Identities] | None,
        defaults: ClientLimits,
        *,
        open_health: bool,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(open_health=open_health, now=now)
        self._identities = identities
        self._defaults = defaults

    def identify(self, call: Caller) -> Identity:
        names = call.certificate_names()
        if self._identities is None:
            if names:
                return Identity(names[0], ALL_SCOPES, self._defaults)
        else:
            by_name = self._identities().by_name
            for name in names:
                if name in by_name:
                    return by_name[name]
        raise Unauthenticated(NO_CERTIFICATE)

    def names(self) -> Collection[str] | None:
        return None if self._identities is None else self._identities().by_name.keys()
