"""What a model's graph tells before it runs: where values come from, which shapes they have, what may fail."""
