"""The work of clients, each in processes of its own: `python -m tests.bench.clients.NAME JOB`.

A client connects, warms up, says that it is ready, begins when it is told to, works for the seconds of its job, and
reports what it has done (`job.py`).
"""
