"""The tensors that a run sends."""
