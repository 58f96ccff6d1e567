"""Calls for tests, defined in a cache of their own or in a given one."""

from __future__ import annotations

import numpy as np

from headrace.client.protocol.call import Call
from headrace.client.protocol.call_cache import CallCache
from headrace.client.protocol.call_description import Key, describe, normalize, signature
from headrace.client.protocol.inputs import Inputs
from headrace.v1 import inference_pb2 as pb

X = np.arange(4, dtype=np.float32)


def key_of(inputs: Inputs, model: str = "m") -> Key:
    return signature((model, None, ("y",), (), ()), inputs)[0]


def define(cache: CallCache, inputs: Inputs, model: str = "m") -> tuple[Call, list[pb.Command]]:
    """The call of these inputs, and the commands that define it."""
    names = model, None, ("y",), (), ()
    key, arrays, *_ = signature(names, inputs)
    normal = normalize(inputs, arrays)
    call, items = cache.define(key, describe(names, normal), normal)
    return call, [pb.ClientFrame.FromString(item).commands[0] for item in items]


def made_call(inputs: Inputs) -> Call:
    return define(CallCache(), inputs)[0]
