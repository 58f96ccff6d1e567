"""The load test: `headrace load` records how a server behaves under load, `headrace report` reads the record.

From the command line down; each room imports only from those below it:

- `command`: the two commands and their flags.
- `watching/`: a run shown on the terminal, recorded, and stopped by Ctrl-C.
- `self_test/`: what a request costs this client.
- `workers/`: the processes that send, and the messages between them and their parent.
- `sending/`: one phase in one process: open loop, closed loop, pacing. `inputs/`: the tensors to send.
- `callers/`: how a request is made, in each protocol and mode. `report/`: figures, tables and pages.
- `record/`: what is known about a run, in memory and as a file.
- `planning/`: phases, and when their requests are due.
- `formatting`: numbers as text.

`planning/`, `record/` and `report/` are pure: they do not connect, start processes, or read a clock.
"""
