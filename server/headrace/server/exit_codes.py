"""The exit codes of a server that has not been asked to stop. docs/guide/operating.md lists them all."""

EXIT_BAD_OPTION = 2
EXIT_MODEL_NOT_LOADED = 3
EXIT_CANNOT_LISTEN = 4
