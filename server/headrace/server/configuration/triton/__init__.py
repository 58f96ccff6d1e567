"""Triton's config.pbtxt: what it says becomes options of Headrace, or an error that names the key."""
