"""Requests that cost as much as a client can make them cost, and what they do to a server and its other clients."""
