"""Forks, event loops, and the ends of processes: one sentence where a connection cannot work, and never a hang."""

import asyncio
import os
import sys
import textwrap
from asyncio.subprocess import PIPE
from signal import SIGKILL

import numpy as np
import pytest

import headrace.client as hc
from headrace.client.aio import ticket as tickets
from tests.client.aio.scripted_server import ScriptedServer, scripted_server

X = np.arange(4, dtype=np.float32)
PREAMBLE = """
import asyncio, os, sys
import numpy as np
import headrace.client as hc
import headrace.client.blocking as hb

TARGET, OTHER = sys.argv[1:]
X = {"x": np.arange(4, dtype=np.float32)}
KEPT = []

def forever():
    while True:
        yield X

async def use(target):
    async with hc.connect(target, connect_timeout=30) as server, server.stream() as stream:
        return (await (await stream.submit("m", X, outputs=["y"])))["y"][0]

def say(function, *arguments):
    try:
        print(function(*arguments), flush=True)
    except BaseException as error:
        print(type(error).__name__, error, flush=True)

def in_child(*actions):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        for function, *arguments in actions:
            say(function, *arguments)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
FORKED = "belongs to the process that this one was forked from, and works only there"
USED = "this process was forked from one that had used gRPC, which works only in the parent: start processes with"


async def run(script: str, *targets: str) -> list[str]:
    """The lines that a program prints. It has to end by itself."""
    code = PREAMBLE + textwrap.dedent(script)
    environment = {**os.environ, "GRPC_VERBOSITY": "NONE"}
    # From 3.12 on, Python warns of every fork of a process with threads.
    options = ("-W", "ignore:This process:DeprecationWarning")
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *options,
        "-c",
        code,
        *targets,
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(120):
            out, err = await program.communicate()
    except TimeoutError:
        os.killpg(program.pid, SIGKILL)  # its forked children hold the pipes, too
        await program.communicate()
        pytest.fail("the program did not end")
    assert program.returncode == 0, err.decode()
    assert err == b""
    return out.decode().splitlines()


@pytest.fixture
async def target(server: ScriptedServer) -> str:
    server.automatic = True
    return server.target


# Forks


async def test_a_child_of_a_fork_is_told_what_is_wrong_blocking(target: str) -> None:
    script = """
        with hb.connect(TARGET) as server, server.stream() as stream:
            ticket = stream.submit("m", X, outputs=["y"], keep=["z"])
            print(ticket.result()["y"][0])
            def leave():
                stream.__exit__(None, None, None)
                server.close()
            in_child(
                (server.models,),
                (server.stream().__enter__,),
                (stream.submit, "m", X),
                (next, stream.map("m", [X])),
                (ticket.fetch, "z"),
                (lambda: hb.connect(TARGET).models(),),
                (leave,),
            )
            print(stream.submit("m", X, outputs=["y"]).result()["y"][0])
    """
    first, *lines, left, again = await run(script, target, target)
    assert (first, left, again) == ("1.0", "None", "1.0")
    assert [USED in line for line in lines] == [True] * 6


async def test_a_child_of_a_fork_is_told_what_is_wrong_asyncio(target: str) -> None:
    script = """
        async def main():
            async with hc.connect(TARGET) as server, server.stream() as stream:
                pending = await stream.submit("m", X, outputs=["y"])
                in_child(
                    (lambda: server.models().send(None),),  # the child goes on in the middle of a coroutine
                    (lambda: stream.submit("m", X).send(None),),
                    (lambda: asyncio.run(server.models()),),
                    (lambda: asyncio.run(hc.connect(TARGET).models()),),
                )
                return (await pending)["y"][0]
        print(asyncio.run(main()))
    """
    *lines, answer = await run(script, target, target)
    assert answer == "1.0"
    assert [FORKED in line for line in lines] == [True] * 3 + [False]
    assert USED in lines[-1]


async def test_a_child_of_a_fork_is_told_so_too_if_the_parent_had_closed_its_connections(target: str) -> None:
    """gRPC's threads end some time after its last channel, and a fork meanwhile inherits their locks."""
    script = """
        server = hc.connect(OTHER)  # not used yet
        print(asyncio.run(use(TARGET)))
        in_child((lambda: asyncio.run(use(OTHER)),))
        in_child((lambda: asyncio.run(server.models()),))
        print(asyncio.run(use(OTHER)))
    """
    async with scripted_server() as other:
        other.automatic = True
        first, *lines, again = await run(script, target, other.target)
    assert (first, again) == ("1.0", "1.0")
    assert USED in lines[0]
    assert FORKED in lines[1]


async def test_a_child_of_a_fork_connects_if_the_parent_never_did(target: str) -> None:
    script = """
        server = hc.connect(OTHER)  # not used yet
        in_child((lambda: asyncio.run(use(OTHER)),), (lambda: asyncio.run(server.models()),))
        print(asyncio.run(use(TARGET)))
    """
    async with scripted_server() as other:
        other.automatic = True
        child, unused, parent = await run(script, target, other.target)
    assert (child, parent) == ("1.0", "1.0")
    assert "does not serve" in unused or unused == "[]"


# Event loops


async def test_a_connection_is_used_on_one_event_loop(server: ScriptedServer, client: hc.Server) -> None:
    async with client.stream() as stream:
        peer = await server.accept()
        ticket = await stream.submit("m", {"x": X}, keep=["z"])

        async def each_is_refused() -> None:
            for use in (
                client.models(),
                client.close(),
                stream.submit("m", {"x": X}),
                tickets.result(ticket),
                ticket.fetch("z"),
            ):
                with pytest.raises(RuntimeError, match="belongs to another event loop; "):
                    await use
            with pytest.raises(RuntimeError, match="belongs to another event loop; "):
                async with client.stream():
                    pytest.fail("it was opened")

        await asyncio.to_thread(asyncio.run, each_is_refused())
        await peer.commands(1)
        await peer.done(ticket.tag)
        peer.end_when_closed()


# The ends of processes

BLOCKING = """
    server = hb.connect(TARGET)
    stream = server.stream().__enter__()
    KEPT += [server, stream]
"""
ENDS = {
    "map": BLOCKING + 'KEPT.append(stream.map("m", forever(), outputs=["y"])); print(next(KEPT[-1])["y"][0])',
    "map that was left": """
    with hb.connect(TARGET) as server, server.stream() as stream:
        KEPT.append(stream.map("m", forever(), outputs=["y"]))
        print(next(KEPT[-1])["y"][0])
    """,
    "completed": BLOCKING
    + """
    KEPT.append(hb.completed([stream.submit("m", X, outputs=["y"]) for _ in range(4)]))
    print(next(KEPT[-1]).result()["y"][0])
    """,
    "asyncio": """
    async def main():
        server = hc.connect(TARGET)
        stream = await server.stream().__aenter__()
        KEPT.extend([server, stream, stream.map("m", forever(), outputs=["y"])])
        print((await anext(KEPT[-1]))["y"][0])
        KEPT.append(hc.completed([await stream.submit("m", X, outputs=["y"]) for _ in range(4)]))
        await anext(KEPT[-1])
    asyncio.run(main())
    """,
}


@pytest.mark.parametrize("name", ENDS)
async def test_a_program_ends_when_its_main_function_does(target: str, name: str) -> None:
    lines = [textwrap.dedent(part) for part in ENDS[name].split(BLOCKING)]
    script = (textwrap.dedent(BLOCKING) if len(lines) == 2 else "") + lines[-1]
    assert await run(script, target, target) == ["1.0"]


async def test_a_program_ends_while_a_silent_server_owes_an_answer(server: ScriptedServer) -> None:
    script = textwrap.dedent(BLOCKING) + 'KEPT += [stream.submit("m", X)]; print("end")'
    assert await run(script, server.target, server.target) == ["end"]
    await (await server.accept()).end()


async def test_ctrl_c_while_a_stream_opens_leaves_none_open(server: ScriptedServer) -> None:
    """Nor does it stop the background loop, whatever it interrupts there."""
    server.counting = True
    script = """
        import random, signal
        def interrupt(*_):
            raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        interrupted = 0
        with hb.connect(TARGET) as server:
            with server.stream():
                pass
            for _ in range(200):
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-3))
                    with server.stream():
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    interrupted += 1
            print(interrupted > 20)
            input()
    """
    code = PREAMBLE + textwrap.dedent(script)
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, server.target, server.target, stdin=PIPE, stdout=PIPE
    )
    assert program.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert await program.stdout.readline() == b"True\n"
    except TimeoutError:
        program.kill()
        await program.communicate()
        pytest.fail("the program hung")
    for _ in range(500):  # the last cancellations are under way
        if server.open_streams:
            await asyncio.sleep(0.01)
    assert server.open_streams == 0
    await program.communicate(b"\n")
