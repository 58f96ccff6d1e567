"""`headrace.v1.Inference`: the native protocol."""
