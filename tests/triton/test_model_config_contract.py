"""The ModelConfig of the server has the fields of Triton's, with the same names, numbers and types."""

from __future__ import annotations

import json
import subprocess
import sys

# In processes of their own: both have the same symbols.
DESCRIBE = """
import json
from {package} import model_config_pb2

def describe(message, found):
    if message.full_name not in found:
        found[message.full_name] = [[f.name, f.number, f.type, f.is_repeated] for f in message.fields]
        for field in message.fields:
            if field.message_type is not None:
                describe(field.message_type, found)
            if field.enum_type is not None:
                found[field.enum_type.full_name] = [[v.name, v.number] for v in field.enum_type.values]
    return found

found = describe(model_config_pb2.ModelConfig.DESCRIPTOR, {{}})
print(json.dumps({{name: sorted(fields) for name, fields in found.items()}}))
"""


def described(package: str) -> dict[str, list[object]]:
    script = DESCRIBE.format(package=package)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(ended.stdout)  # type: ignore[no-any-return]  # a dict


def test_it_has_every_field_that_triton_has() -> None:
    theirs = described("tritonclient.grpc")
    assert len(theirs) > 50
    assert described("headrace.oip") == theirs
