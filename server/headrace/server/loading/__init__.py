"""Loading a model into a process that serves, after a trial in another one.

`loader` puts the steps together; `trial_process` runs the trial; `cache` keeps what trials have found, by what
`identity` says decides it.
"""
