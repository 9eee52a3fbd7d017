"""How training ends before its last epoch."""

from zdce.errors import ZdceError


class TrainingError(ZdceError):
    """Training ended before its last epoch; the message says why and how to go on."""


class TrainingInterruptedError(TrainingError):
    """A signal asked for it; the state is saved."""
