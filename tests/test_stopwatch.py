import os
import signal
import subprocess
import sys
import time

PROGRAM = """
import time
from tests.stopwatch import Stopwatch

with Stopwatch() as watch:
    print("started", flush=True)
    input()
    print(watch.elapsed(), watch.ran())
    watch.start()
    time.sleep(0.5)
    print(watch.elapsed(), watch.ran())
"""


def test_only_the_time_in_which_the_process_ran_counts() -> None:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "started\n"
        os.kill(program.pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(program.pid, signal.SIGCONT)
        out, _ = program.communicate("\n", timeout=30)
    (stopped, stopped_ran), (slept, slept_ran) = ([float(word) for word in line.split()] for line in out.splitlines())
    assert stopped >= 1
    assert stopped_ran <= stopped - 0.9
    assert slept_ran <= slept
    assert slept >= 0.5
