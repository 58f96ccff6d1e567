"""Where requests come from that may be anything: good ones with changes, seeds with changed bytes, and Hypothesis."""

from __future__ import annotations

import json
import random
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from headrace.oip import open_inference_pb2 as oip
from headrace.v1 import inference_pb2 as pb
from tests.costs.fronts import STREAM_INFER, Fronts, UnaryRequest
from tests.costs.made_messages import made
from tests.costs.measuring import STREAM
from tests.costs.mutations import changed_bytes, client_frames, infer_requests, mutated, unary_requests

SEEDS = Path(__file__).parent / "seeds.json"
MOST_SEED_BYTES, MOST_SEEDS = 400, 400
"""Larger ones are not kept, nor more."""
MESSAGES = 40
"""Those of a stream, before another takes its place."""
INFER = "/inference.GRPCInferenceService/ModelInfer"
EXAMPLES = 100
_VARIES = re.compile(r"'[^']*'|\"[^\"]*\"|-?\d+(\.\d+)?")


@cache
def _good() -> tuple[Sequence[tuple[str, Message]], Sequence[Message], Sequence[Message]]:
    return unary_requests(), infer_requests(), client_frames()


def changes(fronts: Fronts, seed: int, count: int) -> None:
    """Good requests with one to three changes of their fields, structure or bytes: half of them on streams."""
    chance = random.Random(seed)
    others, infers, frames = _good()
    while count > 0:
        size = min(MESSAGES, count)
        for _ in range(2):
            picked = [
                (INFER, chance.choice(infers)) if chance.random() < 0.6 else chance.choice(others) for _ in range(size)
            ]
            fronts.unary([(method, mutated(message, chance)) for method, message in picked])
        fronts.frames([mutated(chance.choice(frames), chance) for _ in range(size)])
        fronts.stream([mutated(chance.choice(infers), chance) for _ in range(size)])
        count -= 4 * size


class Seeds:
    """Messages whose answers have all been different ones, kept in a file. One that is answered in a new way joins."""

    def __init__(self, file: Path = SEEDS) -> None:
        self._kept: dict[str, UnaryRequest] = {}
        self.new: dict[str, UnaryRequest] = {}
        if file.exists():
            self._kept = {
                answer: (method, b64decode(message))
                for answer, (method, message) in json.loads(file.read_text()).items()
            }

    def heard(self, method: str, message: bytes, code: str, text: str) -> None:
        answer = f"{method.rpartition('/')[2]} {code} {_VARIES.sub('#', text)[:90]}".strip()
        known = answer in self._kept or answer in self.new
        if not known and len(message) <= MOST_SEED_BYTES and len(self._kept) + len(self.new) < MOST_SEEDS:
            self.new[answer] = method, message

    def all(self) -> list[UnaryRequest]:
        return [*self._kept.values(), *self.new.values()]

    def as_json(self) -> dict[str, list[str]]:
        return {
            answer: [method, b64encode(message).decode()]
            for answer, (method, message) in (self._kept | self.new).items()
        }


def bytes_of_seeds(fronts: Fronts, seeds: Seeds, seed: int, count: int) -> None:
    """Every seed as it is; then seeds with some bytes changed, or the beginning of one and the end of another."""
    chance = random.Random(seed)
    good = [(INFER, each.SerializeToString()) for each in infer_requests()]
    good += [(STREAM_INFER, each.SerializeToString()) for each in infer_requests()]
    good += [(STREAM, each.SerializeToString()) for each in client_frames()]
    good += [(method, each.SerializeToString()) for method, each in unary_requests()]
    fronts.send(seeds.all())
    while count > 0:
        size = min(4 * MESSAGES, count)
        known = good + seeds.all()
        fronts.send([_varied(*chance.choice(known), known, chance) for _ in range(size)])
        count -= size


def _varied(method: str, message: bytes, known: Sequence[UnaryRequest], chance: random.Random) -> UnaryRequest:
    if chance.random() < 0.2:
        _, other = chance.choice(known)
        message = message[: chance.randrange(len(message) + 1)] + other[chance.randrange(len(other) + 1) :]
    for _ in range(chance.choice((1, 1, 2, 4))):
        message = changed_bytes(message, chance)
    return method, message


def examples(fronts: Fronts, number: int, count: int) -> None:
    """What Hypothesis makes of the descriptions of messages. What fails is made as small as it can be, and kept."""
    kinds: dict[str, type[Message]] = {method: type(message) for method, message in unary_requests()}
    kinds |= {INFER: oip.ModelInferRequest, STREAM_INFER: oip.ModelInferRequest}

    def of(method: str) -> st.SearchStrategy[UnaryRequest]:
        return made(kinds[method]).map(lambda message: (method, message.SerializeToString()))

    frames = made(pb.ClientFrame).map(lambda message: (STREAM, message.SerializeToString()))
    requests = st.one_of(frames, frames, of(STREAM_INFER), of(INFER), *map(of, sorted(kinds)))
    before, goal = _sent(fronts), count

    for round_number in _until(lambda: _sent(fronts) - before >= goal):

        @seed(1000 * number + round_number)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            suppress_health_check=[*HealthCheck],
            phases=[Phase.reuse, Phase.generate, Phase.shrink],
        )
        @given(st.lists(requests, min_size=1, max_size=12))
        def send(requests: list[UnaryRequest]) -> None:
            known = len(fronts.leaks)
            fronts.send(requests)
            assert len(fronts.leaks) == known, fronts.leaks[known:]

        send()


def _sent(fronts: Fronts) -> int:
    return sum(fronts.requests.values())


def _until(condition: object) -> Iterator[int]:
    assert callable(condition)
    number = 0
    while not condition():
        yield number
        number += 1
