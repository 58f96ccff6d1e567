"""The Open Inference Protocol, package `inference`, and the modules generated from its .proto files.

Protobuf allows each symbol only once per process: a program that imports this package cannot also import another
library's stubs of the protocol.
"""
