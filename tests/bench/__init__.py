"""`make bench`: Headrace beside its limits, as ratios of turns that alternate in one run on one machine.

A *case* is something a client does, measured for each *way* of serving (this build, another build, another transport)
and for a *reference* (a gRPC echo, the runtime alone). Each measurement is a *turn* of about a second. A *round* is a
turn of each, so that a drift of the machine reaches all of them. Ratios are taken within a round.

`cases/` says what is measured and what is demanded of it, `clients/` does the work, each in processes of its own,
`references/` are the limits, `serving/` starts servers, `measuring/` takes turns and judges.
"""
