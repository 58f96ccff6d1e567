"""Responses that are ready together may be sent together."""

from __future__ import annotations

from tests.server.services.oip.calls import InMemoryCall, request
from tests.server.services.oip.infer_service import InferService


async def test_the_transport_is_told_of_all_but_the_last_response_that_more_follow() -> None:
    service, call = InferService(None), InMemoryCall()
    stream = service.stream(call)
    call.send(request(name="first"))
    await service.wait_running()
    call.send(*[request(name=name, model="unknown") for name in "abc"], request(name="second"))
    await service.wait_in_flight(5)
    assert call.written == [], "responses keep the order of the requests"
    service.finish()
    await call.wait_written(4)
    assert call.more == [True, True, True, False]
    service.finish()
    call.half_close()
    await stream
    assert [bool(error) for error in call.errors] == [False, True, True, True, False]
    assert call.more[4:] == [False]
    service.dispatcher.close()
