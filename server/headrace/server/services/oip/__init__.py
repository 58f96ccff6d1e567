"""The Open Inference Protocol, version 2, with Triton's stream: translated to the core's terms, and back."""
