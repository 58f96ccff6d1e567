"""A model and a server status to print."""

from headrace.client.protocol.models import Model, Port
from headrace.client.protocol.status import Account, ModelStatus, ServerStatus, StreamStatus, Variant, WorkerStatus

MODEL = Model(
    "segmenter",
    "2",
    (Port("image", "UINT8", (None, 3, (1, 640)), ("image", "i")), Port("words", "BYTES", None, ("words",))),
    (Port("mask", "FP32", ((2, None), 4), ("mask",)),),
    has_variables=True,
    slots=4,
    direct=False,
    direct_reason="it has strings",
    batch=8,
    batch_reason="up to 8 rows",
    weight=3,
    priority=1,
    streams=2,
    threads=1,
    weights_bytes=4 << 20,
    memory_bytes=13 << 19,
)
STATUS = ServerStatus(
    "0.1.0",
    False,
    3,
    12,
    1536,
    0,
    (ModelStatus("segmenter", "2", 1, 2, 1, 7, 9000, 3, 1125, 1, 5, (Variant(("mask", "score"), 800, 5 << 20),)),),
    Account("memory", 3 << 20, 1 << 30),
    (Account("queue", 0, 1 << 30), Account("unsent", 3 << 20, 1 << 29)),
    300 << 20,
    (StreamStatus("team-a", 12, 1536, 3 << 20),),
    (WorkerStatus(1, "", 3, 12, 9000, 300 << 20), WorkerStatus(2, "has not answered for 5 s", 0, 0, 0, 0)),
)
