"""The load test: `headrace load` records what a server does under a load, `headrace report` reads it.

- plan: when requests are due (pure). pacer: waits for that, by a clock that it is given.
- attack: a phase in one process, by open_loop or closed_loop; ledger: what it has in flight; places: its room.
- calling/: how a request is made, in each protocol and mode. inputs: what is sent.
- worker: a process that attacks. crew: all of them. orders: what they say to each other.
- command, options: what a shell says. attended: a run that somebody looks at. live, progress: what is seen of it.
- run, samples: what there is of a run (pure). record: it as a file. report/: figures, tables and pages (pure).
- self_test/: what a request costs this client.
"""
