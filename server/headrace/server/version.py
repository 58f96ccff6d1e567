"""The version of the software, as installed."""

from importlib.metadata import version

VERSION = version("headrace")
