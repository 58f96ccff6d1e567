"""What event loops need that wait for gRPC's completion queue, in the server and in the client."""
