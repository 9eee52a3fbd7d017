"""Errors that are a user's to mend; any other exception is a bug of ours."""


class BackendError(RuntimeError):
    """A backend was asked for that can't run here."""
