"""The error for arguments that the command cannot carry out."""


class UsageError(Exception):
    """A request that cannot be carried out as given. The text is one sentence for the user."""
