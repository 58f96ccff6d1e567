"""The native contract of Headrace, package `headrace.v1`: inference.proto and the modules generated from it."""
