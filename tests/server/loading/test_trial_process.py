"""A model is tried in a process of its own, whose end, of whatever kind, is one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.findings import Findings
from headrace.server.engine.port_options import InputOptions, OutputOptions
from headrace.server.engine.trial.messages import TrialRequest
from headrace.server.loading import trial_process
from headrace.server.loading.trial_process import TrialProcess
from headrace.wire.errors import FailedPrecondition, HeadraceError, NotFound, Unavailable
from tests import bad_models, models
from tests.stopwatch import Stopwatch
from tests.waiting import until

F32 = Compilation(properties={"INFERENCE_PRECISION_HINT": "f32"})


class Trial(TrialProcess):
    """A process and the model that it gets."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def find(self, seconds: float = 60.0) -> Findings:
        return self.run(TrialRequest("m", "1", self.path, F32), seconds)


def trial(path: Path) -> Trial:
    return Trial(path)


def sentence(process: Trial, kind: type[HeadraceError] = FailedPrecondition, seconds: float = 60.0) -> str:
    """What a trial fails with: one sentence, and nothing is left of its process."""
    with pytest.raises(kind) as failed:
        process.find(seconds)
    assert process._process.returncode is not None
    message = failed.value.message
    assert "\n" not in message
    assert len(message) < 2000
    return message


def test_a_good_model_has_findings(tmp_path: Path) -> None:
    findings = trial(models.add_multiply(tmp_path)).find()
    assert findings.direct
    assert findings.direct_reason == ""
    assert findings.batch > 1
    assert findings.batch_reason.startswith(f"up to {findings.batch} rows")
    assert findings.follows
    findings = trial(models.reshaping(tmp_path)).find()
    assert not findings.direct
    assert "Reshape" in findings.direct_reason
    assert not findings.follows


def test_a_request_survives_the_way_to_the_child() -> None:
    inputs = {"x": InputOptions(shape="1,?", mean=(1.0, 2.0), crop=(1, 2, 3, 4))}
    outputs = {"y": OutputOptions(topk=5, threshold=0.5)}
    properties = {"A": "1", "é": "="}
    compilation = Compilation(
        "GPU.1", "direct", "none", properties, 3, 8, inputs, outputs, state="ports", extensions=("a", "b")
    )
    request = TrialRequest("m", "2", Path("/a b/ü.xml"), compilation)
    assert TrialRequest.decode(request.encode()) == request


def test_a_file_that_is_not_a_model(tmp_path: Path) -> None:
    path = tmp_path / "text.xml"
    path.write_text("not a model")
    assert sentence(trial(path)).startswith(f"model 'm' cannot be read from '{path}': ")


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    assert "does not exist" in sentence(trial(tmp_path / "none.xml"), NotFound)


FIVE_ROWS = """
import os, signal
from headrace.server.engine.trial import __main__, sizes
run = sizes.SizeRunner._run
def faulty(runner, shapes, *arguments):
    if shapes[0][0] >= 5:
        os.kill(os.getpid(), signal.SIGFPE)
    return run(runner, shapes, *arguments)
sizes.SizeRunner._run = faulty
__main__.main()
"""
"""The child, with a runtime that ends it from five rows on."""


def test_a_model_that_divides_by_zero_from_five_rows_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_process, "COMMAND", (sys.executable, "-c", FIVE_ROWS))
    path = models.scale(tmp_path)
    ends = f"model 'm' from '{path}' ends the process that tries it (SIGFPE) while it runs inputs of [5]"
    assert sentence(trial(path)) == ends


def test_a_model_that_is_refused_says_why(tmp_path: Path) -> None:
    assert "CTCLoss" in sentence(trial(bad_models.ctc_loss(tmp_path)))


def test_a_file_that_is_read_for_ever(tmp_path: Path, stopwatch: Stopwatch) -> None:
    path = bad_models.endless(tmp_path)
    for seconds in (3, 30):
        stopwatch.start()
        message = sentence(trial(path), seconds=seconds)
        assert stopwatch.ran() < seconds + 7
        if "the trial starts" not in message:  # as it may be for three seconds on a busy machine
            break
    assert message == f"model 'm' from '{path}' takes longer than --load-timeout, {seconds} s: the model is read"


def processor_seconds(stat: Path) -> float:
    return int(stat.read_text().rpartition(")")[2].split()[11]) / os.sysconf("SC_CLK_TCK")


def when_it_reads(process: Trial, act: Callable[[], None]) -> None:
    """Do something once the child computes, which the file that is read for ever makes it do."""

    def watch() -> None:
        stat = Path(f"/proc/{process._process.pid}/stat")
        until(lambda: processor_seconds(stat) >= 2)
        act()

    threading.Thread(target=watch).start()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT, signal.SIGTERM])
def test_a_child_that_a_signal_ends(tmp_path: Path, number: signal.Signals) -> None:
    process = trial(bad_models.endless(tmp_path))
    when_it_reads(process, lambda: os.kill(process._process.pid, number))
    assert f"ends the process that tries it ({number.name}) while the model is read" in sentence(process)


def test_a_trial_is_ended_by_another_thread(tmp_path: Path) -> None:
    process = trial(bad_models.endless(tmp_path))
    when_it_reads(process, lambda: process.kill("the server is stopping"))
    assert sentence(process, Unavailable) == "model 'm' was not loaded: the server is stopping"


def test_a_child_that_stands_still_takes_too_long(tmp_path: Path) -> None:
    process = trial(models.scale(tmp_path))
    os.kill(process._process.pid, signal.SIGSTOP)
    assert "takes longer than --load-timeout, 0.5 s: the trial starts" in sentence(process, seconds=0.5)


PROGRAMS = {
    "import sys; sys.exit(3)": "(exit code 3) while the trial starts",
    "import sys; sys.exit('the last\\nwords')": "(exit code 1) while the trial starts: words",
    'import os; os.write(1, b\'{"doing": "it stops"}\\nnoise\\n[1]\\n{}\\n\\xff\')': "(exit code 0) while it stops",
    "import os; [os.write(n, b'x' * 5_000_000) for n in (1, 2)]; exit('\\nend')": "while the trial starts: end",
    "import os; os.close(1); os.close(2); os.abort()": "(SIGABRT) while the trial starts",
    'print(\'{"error": {"code": 9, "message": "no"}}\', flush=True); raise SystemExit(7)': "(exit code 7)",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_whatever_the_child_says_and_however_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(trial_process, "COMMAND", (sys.executable, "-c", program))
    assert PROGRAMS[program] in sentence(trial(tmp_path / "m.xml"))


def test_a_process_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_process, "COMMAND", (str(tmp_path / "none"),))
    with pytest.raises(OSError, match="No such file or directory"):
        trial(tmp_path / "m.xml")


def test_a_process_that_gets_no_model_ends() -> None:
    process = TrialProcess()
    process.discard()
    assert process._process.returncode == -signal.SIGKILL
    process = TrialProcess()
    assert process._process.stdin is not None
    process._process.stdin.close()  # as when the parent ends
    assert process._process.wait(30) == 1
    process.discard()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends it there")
def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.server.loading.test_trial_process import trial\n"
        "process = trial(Path(sys.argv[1])); print(process._process.pid, flush=True); process.find(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(bad_models.endless(tmp_path))], stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        stat = Path(f"/proc/{child}/stat")
        until(lambda: processor_seconds(stat) >= 1)  # it reads
        parent.kill()
        parent.wait()
        until(lambda: not is_running(stat))


def is_running(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
