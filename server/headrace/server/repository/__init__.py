"""The files of models on disk."""
