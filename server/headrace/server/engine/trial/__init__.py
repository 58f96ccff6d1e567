"""The trial of a model in a process of its own: `python -m headrace.server.engine.trial`.

A file that is corrupt or unusual can make the runtime read it for ever, or end the process by a signal. So before a
model is loaded into a process that serves, it is read, compiled, measured and run in a child process, which may end.
`messages` is what parent and child say to each other, and needs no runtime.
"""
