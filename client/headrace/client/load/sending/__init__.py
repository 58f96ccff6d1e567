"""Sends the requests of one phase in one process: on time in an open loop, one after the other in a closed loop."""
