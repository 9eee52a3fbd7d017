"""What a run trains on and is validated with."""

from typing import NamedTuple

from torch import Tensor

from zdce import data
from zdce.training.config import Config


class Pictures(NamedTuple):
    """What a run trains on and is validated with, both (N, 3, size, size) uint8."""

    training: Tensor
    validation: Tensor


def load_pictures(config: Config) -> Pictures:
    """The pictures of ``config.data``, resized.

    Raises:
        OSError: one can't be read.
        ValueError: there are fewer than one batch takes.
    """
    pictures = data.collection(config.data)
    items = pictures.training_items()
    if len(items) < config.batch_size:
        raise ValueError(f"batch_size must be at most the {len(items)} training pictures, got {config.batch_size}")
    return Pictures(
        data.load_resized(items, config.size, "loading training pictures"),
        data.load_resized(pictures.validation_items(), config.size, "loading validation pictures"),
    )
