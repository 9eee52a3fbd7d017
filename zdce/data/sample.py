"""A built-in set of low-light photographs with true references: scikit-image's own, made dark.

The photographs are in the public domain (astronaut, rocket: NASA, SpaceX) or CC0 (chelsea, coffee) and come with the wheel.
"""

from functools import cache

import skimage.data

from zdce.data.darkening import DarkPictures, Rgb


@cache
def photograph(name: str) -> Rgb:
    """A photograph (H, W, 3) that scikit-image ships."""
    pixels: Rgb = getattr(skimage.data, name)()
    pixels.flags.writeable = False  # shared by all of its crops
    return pixels


PICTURES = DarkPictures(("astronaut", "chelsea", "coffee", "rocket"), photograph, exposure=(0.05, 0.3), full_wells=(2000.0,))
