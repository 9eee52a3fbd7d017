"""Training without references: the loop, its log, and the state from which a stopped run continues, bit for bit."""

from zdce.training.config import AUGMENTATIONS, KEEP_EVERY, MAX_SEED, MAX_SIZE, SCHEDULES, Config
from zdce.training.errors import TrainingError, TrainingInterruptedError
from zdce.training.folder import RunFolder, read_log
from zdce.training.pictures import Pictures, check_pictures, load_pictures
from zdce.training.run import Run, seconds_a_step
from zdce.training.state import Position

__all__ = [
    "AUGMENTATIONS",
    "KEEP_EVERY",
    "MAX_SEED",
    "MAX_SIZE",
    "SCHEDULES",
    "Config",
    "Pictures",
    "Position",
    "Run",
    "RunFolder",
    "TrainingError",
    "TrainingInterruptedError",
    "check_pictures",
    "load_pictures",
    "read_log",
    "seconds_a_step",
]
