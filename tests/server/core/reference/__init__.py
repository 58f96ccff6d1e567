"""The core's rules, told a second time the slow way, and the walks that compare the two.

`model.ReferenceModel` receives the same commands, ends of runs and times as the core. It counts and caches nothing: it
answers each question by looking everything up again. Its parts, each of which knows those before it:

    expected       tickets, outputs, streams and events as they must be
    state          everything that is held at this moment
    turns          whose turn it is
    waits          which tickets may be held back so that more of them share a run
    schedule       the turns that explain why just these runs start
    ends           how tickets end, and how the tickets that wait for them go on
    entry          who may wait for a slot, and who has to make room
    commands       what each command of a client leads to
    execution      what a decision may start, and what the end of a run leads to

`comparison` tells the core and the model the same and compares them (`checks`). `moves` are what clients, the runtime
and time may do; Hypothesis chooses among them in `state_machine`, a random generator in `random_walk`, which goes
further.
"""
