"""Replicas of Ray Serve that run the server. `serve run FILE.yaml` needs three names of this module:

`app` builds the application, `add_services` tells Ray the RPCs, and `tickets_policy` scales by tickets in flight.
"""

from headrace.server.ray.adapter import add_services
from headrace.server.ray.deployment import app, tickets_policy

__all__ = ["add_services", "app", "tickets_policy"]
