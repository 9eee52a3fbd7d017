"""How training ends before its last epoch."""


class TrainingError(Exception):
    """Training ended before its last epoch; the message says why and how to go on."""


class TrainingInterruptedError(TrainingError):
    """A signal asked for it; the state is saved."""
