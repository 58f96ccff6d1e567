"""gRPC services over the core. A service decodes messages into the core's terms and encodes the core's events."""
