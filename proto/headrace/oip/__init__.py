"""The Open Inference Protocol, package `inference`, and the modules generated from its .proto files.

Protobuf knows each symbol once per process: whoever imports this cannot load another library's stubs of it as well.
"""
