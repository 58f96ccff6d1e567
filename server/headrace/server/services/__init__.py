"""gRPC services over the core. A front translates: it decodes into the core's terms and encodes what the core says."""
