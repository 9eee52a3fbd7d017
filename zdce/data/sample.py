"""Built-in low-light pictures with true references: photographs of scikit-image, made dark.

The photographs are in the public domain (astronaut, rocket: NASA, SpaceX) or CC0 (chelsea, coffee) and are part of
scikit-image's wheel.
"""

from functools import cache

import skimage.data

from zdce.data.darkening import DarkPictures, Rgb


@cache
def photograph(name: str) -> Rgb:
    """A photograph of scikit-image, (H, W, 3)."""
    pixels: Rgb = getattr(skimage.data, name)()
    pixels.flags.writeable = False  # shared by all of its crops
    return pixels


PICTURES = DarkPictures(("astronaut", "chelsea", "coffee", "rocket"), photograph, exposure=(0.05, 0.3), full_wells=(2000.0,))
