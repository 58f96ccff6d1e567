"""Tokens, the file of identities, and who is let in."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path

import pytest

from headrace.server.core.clients import NO_LIMITS, Client, ClientLimits
from headrace.server.security.guard import MAX_IDLE_CLIENTS, CertificateGuard, TokenGuard
from headrace.server.security.identities import Identities, identity_lines, parse_identities, read_identities
from headrace.server.security.reloaded_files import UnusableFileError
from headrace.server.security.scopes import Scope
from headrace.server.security.tokens import new_token, parse_hash
from headrace.wire.errors import HeadraceError, PermissionDenied, Unauthenticated

INFER, LOAD, HEALTH = (
    "/headrace.v1.Inference/Stream",
    "/headrace.v1.Inference/LoadModel",
    "/grpc.health.v1.Health/Check",
)


class Call:
    def __init__(self, *headers: tuple[str, str | bytes], names: Sequence[str] = ()) -> None:
        self._headers, self._names = headers, names
        self.client: Hashable = None

    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self._headers

    def certificate_names(self) -> Sequence[str]:
        return self._names


def with_token(token: str) -> Call:
    return Call(("user-agent", "x"), ("authorization", f"Bearer {token}"))


def identities(*scopes: Scope, limits: ClientLimits = NO_LIMITS) -> tuple[str, Identities]:
    token, hashed = new_token()
    return token, parse_identities(identity_lines("camera", scopes, hashed), limits)


class TestTokens:
    def test_a_token_is_another_one_each_time_and_only_its_hash_is_written(self) -> None:
        (token, hashed), (other, _) = new_token(), new_token()
        assert re.fullmatch(r"hr_[0-9a-f]{16}_[\w-]{43}", token)
        assert token[20:] not in str(hashed)
        assert token != other
        assert parse_hash(str(hashed)) == hashed
        assert hashed.matches(token)
        for wrong in (other, token[:-1], token + "x", token.swapcase(), "", "hr_ü"):
            assert not hashed.matches(wrong)

    def test_what_is_no_hash_is_not_shown(self) -> None:
        token, _ = new_token()
        with pytest.raises(ValueError, match="not the hash of a token") as refused:
            parse_hash(token)
        assert token not in str(refused.value)


class TestTheGuard:
    def test_a_right_token_is_let_in_where_it_may(self) -> None:
        token, found = identities(Scope.INFER, limits=ClientLimits(rate=5))
        guard = TokenGuard(lambda: found, open_health=True)
        for header in (f"Bearer {token}", f"bearer {token}", f"BEARER  {token}"):
            client = guard.door(INFER)(Call(("authorization", header)))
            assert isinstance(client, Client)
            assert (client.name, client.limits.rate) == ("camera", 5)
            assert client is guard.door(INFER)(with_token(token))
        call = with_token(token)
        with pytest.raises(PermissionDenied, match=r"'camera' may not call LoadModel: .* the scope 'control'"):
            guard.door(LOAD)(call)
        assert call.client is client, "the log says who it was"
        assert guard.door(HEALTH)(Call()) is None

    def test_no_token_and_wrong_ones_are_not(self) -> None:
        token, found = identities(*Scope)
        other, _ = new_token()
        guard = TokenGuard(lambda: found, open_health=False)
        guard.door(INFER)(with_token(token))
        forged = token[:20] + other[20:]
        for call, sentence in (
            (Call(), "wants a token"),
            (Call(("authorization", "")), "wants a token"),
            (Call(("authorization", token)), "wants a token"),
            (Call(("authorization", f"Basic {token}")), "wants a token"),
            (Call(("authorization-bin", token.encode())), "wants a token"),
            (with_token(other), "is not valid"),
            (with_token(forged), "is not valid"),
            (with_token(token[:-1]), "is not valid"),
            (with_token(token + "x"), "is not valid"),
            (with_token(token.upper()), "is not valid"),
            (with_token(""), "is not valid"),
            (with_token("x" * 100_000), "is not valid"),
        ):
            for path in (INFER, LOAD, HEALTH):
                with pytest.raises(Unauthenticated, match=sentence) as refused:
                    guard.door(path)(call)
                for secret in (token, other, forged):
                    assert secret[20:] not in refused.value.message
        assert len(guard._known) == 1

    def test_a_token_that_is_no_longer_in_the_file_is_not_let_in(self) -> None:
        token, found = identities(Scope.INFER)
        held = [found]
        guard = TokenGuard(lambda: held[0], open_health=True)
        door = guard.door(INFER)
        client = door(with_token(token))
        held[0] = parse_identities("", NO_LIMITS)
        with pytest.raises(Unauthenticated):
            door(with_token(token))
        held[0] = found
        assert door(with_token(token)) is client

    def test_limits_that_have_changed_are_those_of_the_same_client(self) -> None:
        token, found = identities(Scope.INFER)
        held = [found]
        guard = TokenGuard(lambda: held[0], open_health=True)
        client = guard.door(INFER)(with_token(token))
        assert client is not None
        identity = found.by_name["camera"]
        assert client.limits is identity.limits
        text = identity_lines("camera", identity.scopes, next(iter(found.by_token.values()))[0]) + "rate = 3\n"
        held[0] = parse_identities(text, NO_LIMITS)
        assert guard.door(INFER)(with_token(token)) is client
        assert client.limits.rate == 3

    def test_an_rpc_without_a_scope_has_no_door(self) -> None:
        guard = TokenGuard(Identities, open_health=True)
        with pytest.raises(KeyError):
            guard.door("/headrace.v1.Inference/New")

    def test_a_certificate_is_known_by_any_of_its_names(self) -> None:
        found = parse_identities('["camera.example"]\nscopes = ["infer"]\n', NO_LIMITS)
        guard = CertificateGuard(lambda: found, NO_LIMITS, open_health=True)
        for names in (["camera.example"], ["other.example", "camera.example"]):
            client = guard.door(INFER)(Call(names=names))
            assert client is not None
            assert client.name == "camera.example"
        for names in ([], ["other.example"], ["example"], ["CAMERA.example"]):
            with pytest.raises(Unauthenticated, match="no name of the client's certificate"):
                guard.door(INFER)(Call(names=names))
        with pytest.raises(PermissionDenied):
            guard.door(LOAD)(Call(names=["camera.example"]))

    def test_without_a_file_every_certificate_may_do_all(self) -> None:
        guard = CertificateGuard(None, ClientLimits(tickets=7), open_health=False)
        for path in (INFER, LOAD, HEALTH):
            client = guard.door(path)(Call(names=["a", "b"]))
            assert client is not None
            assert (client.name, client.limits.tickets) == ("a", 7)
        with pytest.raises(HeadraceError):
            guard.door(HEALTH)(Call())

    def test_who_can_call_is_known_where_a_file_says_so(self) -> None:
        _, hashed = new_token()
        found = parse_identities(identity_lines("a", [], hashed) + '[b]\nscopes = ["infer"]\n', NO_LIMITS)
        assert set(TokenGuard(lambda: found, open_health=True).names()) == {"a"}
        assert set(CertificateGuard(lambda: found, NO_LIMITS, open_health=True).names() or ()) == {"a", "b"}
        assert CertificateGuard(None, NO_LIMITS, open_health=True).names() is None


class TestManyIdentities:
    """A CA signs as many names as it likes."""

    def test_those_that_do_nothing_are_not_all_remembered(self) -> None:
        guard = CertificateGuard(None, NO_LIMITS, open_health=True)
        door = guard.door(INFER)
        busy = {name: door(Call(names=[name])) for name in ("a stream", "a ticket", "a message")}
        for client, attribute in zip(busy.values(), ("calls", "in_flight", "nbytes"), strict=True):
            setattr(client, attribute, 1)
        for number in range(3 * MAX_IDLE_CLIENTS):
            door(Call(names=[f"name-{number}"]))
            assert len(guard._clients) <= MAX_IDLE_CLIENTS
        for number in range(MAX_IDLE_CLIENTS):
            assert guard.client_named(f"elsewhere-{number}").name == f"elsewhere-{number}", "it calls another worker"
            assert len(guard._clients) <= MAX_IDLE_CLIENTS
        assert {name: door(Call(names=[name])) for name in busy} == busy

    def test_whoever_has_used_its_rate_is_remembered_while_others_can_be_forgotten(self) -> None:
        now = 100.0
        guard = CertificateGuard(None, ClientLimits(rate=1, burst=2), open_health=True, now=lambda: now)
        door = guard.door(INFER)
        tired, rested = (door(Call(names=[name])) for name in ("tired", "rested"))
        assert tired is not None
        assert rested is not None
        for client, when in ((tired, now), (tired, now), (rested, now - 1)):
            client.admitted(when)
        for number in range(2 * MAX_IDLE_CLIENTS):
            door(Call(names=[f"name-{number}"]))
        assert door(Call(names=["tired"])) is tired
        assert door(Call(names=["rested"])) is not rested
        now += 2
        for number in range(2 * MAX_IDLE_CLIENTS):
            door(Call(names=[f"name-{number}"]))
        assert door(Call(names=["tired"])) is not tired

    def test_there_is_a_bound_whatever_their_rates(self) -> None:
        guard = CertificateGuard(None, ClientLimits(rate=1e-9), open_health=True, now=lambda: 100.0)
        door = guard.door(INFER)
        for number in range(3 * MAX_IDLE_CLIENTS):
            client = door(Call(names=[f"name-{number}"]))
            assert client is not None
            client.admitted(100.0)
            assert len(guard._clients) <= MAX_IDLE_CLIENTS

    def test_more_that_do_something_cost_a_look_at_all_now_and_then(self) -> None:
        guard = CertificateGuard(None, NO_LIMITS, open_health=True)
        door = guard.door(INFER)
        found = []
        for number in range(2 * MAX_IDLE_CLIENTS):
            client = door(Call(names=[f"name-{number}"]))
            assert client is not None
            client.calls += 1
            found.append(client)
        assert [*guard._clients.values()] == found
        for client in found:
            client.calls -= 1
        for number in range(2 * MAX_IDLE_CLIENTS):
            door(Call(names=[f"another-{number}"]))
        assert len(guard._clients) <= 2 * MAX_IDLE_CLIENTS + 1
        assert found[0].name not in guard._clients


class TestTheFile:
    def test_it_says_all_about_an_identity(self) -> None:
        tokens = [new_token() for _ in range(2)]
        listed = ", ".join(f'"{hashed}"' for _, hashed in tokens)
        text = f"""
            [camera]
            scopes = ["infer", "metadata"]
            tokens = [{listed}]
            rate = 2.5
            burst = 10
            tickets = 64
            bytes = "8 MiB"
            ["an operator"]
            scopes = ["control"]
        """
        found = parse_identities(text, ClientLimits(rate=1, nbytes=5))
        camera, operator = found.by_name.values()
        assert (camera.name, camera.scopes) == ("camera", frozenset({Scope.INFER, Scope.METADATA}))
        assert camera.limits == ClientLimits(2.5, 10, 64, 8 << 20)
        assert (operator.name, operator.limits) == ("an operator", ClientLimits(rate=1, nbytes=5))
        guard = TokenGuard(lambda: found, open_health=True)
        assert len({guard.door(INFER)(with_token(token)) for token, _ in tokens}) == 1

    @pytest.mark.parametrize(
        ("size", "nbytes"), [("0", 0), ("4096", 4096), ('"64mib"', 64 << 20), ('"5 MB"', 5 * 10**6)]
    )
    def test_a_size_is_written_as_in_an_option(self, size: str, nbytes: int) -> None:
        (identity,) = parse_identities(f"[a]\nscopes = []\nbytes = {size}", NO_LIMITS).by_name.values()
        assert identity.limits == ClientLimits(nbytes=nbytes)

    def test_what_the_command_prints_can_be_read(self) -> None:
        for name in ("camera-1", "two words", 'a"b', "ü.example"):
            _, hashed = new_token()
            (identity,) = parse_identities(identity_lines(name, [Scope.INFER], hashed), NO_LIMITS).by_name.values()
            assert (identity.name, identity.scopes) == (name, frozenset({Scope.INFER}))

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("camera = 1", "camera: a table is expected"),
            ("[camera]", "camera: scopes are missing; there are infer, metadata, statistics, control"),
            ('[camera]\nscopes = ["infr"]', "camera: scopes: 'infr' is none; there are infer, metadata"),
            ('[camera]\nscopes = "infer"', "camera: scopes: a list of strings is expected"),
            ("[camera]\nscopes = []\ntoken = 1", "camera: there is no key 'token'; there are scopes, tokens"),
            ('[camera]\nscopes = []\ntokens = ["hr_secret"]', "camera: tokens: this is not the hash of a token"),
            ("[camera]\nscopes = []\nrate = -1", "camera: rate: a number is expected, 0 for no limit"),
            ("[camera]\nscopes = []\nrate = nan", "camera: rate: a number is expected"),
            ("[camera]\nscopes = []\nrate = inf", "camera: rate: a number is expected"),
            ("[camera]\nscopes = []\nburst = 1.5", "camera: burst: a whole number is expected"),
            ("[camera]\nscopes = []\ntickets = true", "camera: tickets: a whole number is expected"),
            *(
                (
                    f"[camera]\nscopes = []\nbytes = {size}",
                    'camera: bytes: a number of bytes, or a size such as "64MiB", is expected; 0 for no limit',
                )
                for size in ('"8 apples"', '"my secret"', "-1", "1.5", "true", "[]", "9223372036854775808")
            ),
            ("[camera]\nscopes = []\n[camera]\n", "Cannot declare"),
            ("[camera", "end of a table declaration"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path: Path, text: str, sentence: str) -> None:
        file = tmp_path / "identities.toml"
        file.write_text(text)
        with pytest.raises(UnusableFileError) as refused:
            read_identities(file, NO_LIMITS)
        assert str(refused.value).startswith(f"the identities in {file} cannot be used: ")
        assert sentence in str(refused.value)
        assert "secret" not in str(refused.value)

    def test_a_token_belongs_to_one_identity(self) -> None:
        _, hashed = new_token()
        lines = identity_lines("a", [Scope.INFER], hashed) + identity_lines("b", [Scope.CONTROL], hashed)
        with pytest.raises(ValueError, match=f"b: tokens: a token may be listed once, and {hashed.id} is listed again"):
            parse_identities(lines, NO_LIMITS)
