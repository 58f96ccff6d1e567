"""Several processes that are one server: a parent that serves nothing itself, and its workers."""
