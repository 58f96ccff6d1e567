"""What happens to a model in its trial: all that a process that serves does with it, and what clients will do."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import openvino as ov

from headrace.server.engine.models import compile_model
from headrace.server.engine.reasons import reason_of
from headrace.server.engine.slots import Slot
from headrace.server.engine.trial.messages import TrialRequest, encode_doing, encode_error, encode_findings
from headrace.server.engine.trial.sizes import SizeRunner
from headrace.server.engine.trial.variant import Comparison, compile_both
from headrace.wire.errors import FailedPrecondition, HeadraceError, quote


def try_model(request: bytes, write: Callable[[bytes], object]) -> NoReturn:
    """Try the model that a TrialRequest names, `write` the lines of a TrialReport, and end the process."""

    def progress(doing: str) -> None:
        write(encode_doing(doing))

    model = TrialRequest.decode(request)
    try:
        core, comparison = ov.Core(), None
        if model.outputs:
            full, compiled = compile_both(core, model, progress)
            comparison = Comparison(full, compiled)
        else:
            where = model.name, model.version, model.path
            compiled = compile_model(core, *where, model.compilation, progress=progress)
        progress("a slot is made")
        slots = [Slot(compiled, lambda _: None)]
        if comparison is not None:
            comparison.compare(progress)
        else:
            runner = SizeRunner(compiled)
            runner.run_sizes(progress)
        assert slots
    except HeadraceError as error:
        write(encode_error(error))
    except Exception as error:
        reason = f"model {quote(model.name)} cannot be served: {reason_of(error)}"
        write(encode_error(FailedPrecondition(reason)))
    else:
        write(encode_findings(compiled.findings))
    # Here, and not in the caller: a run may be in progress, and uses what this function holds.
    os._exit(0)
