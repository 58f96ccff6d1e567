"""Who may call, and how much: certificates, identities, and the limits of each. Nothing here knows gRPC."""
