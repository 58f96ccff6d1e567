"""The Headrace server."""
