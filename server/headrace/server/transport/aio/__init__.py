"""The transport by grpc.aio: slower, and all that is used of grpcio is public."""
