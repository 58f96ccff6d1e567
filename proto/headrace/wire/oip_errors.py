"""What Headrace's server adds to an error within a stream of the Open Inference Protocol. Pure."""

CODE_PARAMETER = "grpc_status"
"""A parameter of the response: the gRPC code, for which the protocol has no place beside the message."""
