"""Exceptions that end training before its last epoch."""

from zdce.errors import ZdceError


class TrainingError(ZdceError):
    """Training ended before its last epoch; the message says why and how to continue."""


class TrainingInterruptedError(TrainingError):
    """SIGINT or SIGTERM ended training; the state is saved."""
