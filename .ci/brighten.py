"""Brightens a photograph with the installed zdce, and fails unless its own compiled core did that: brighten.py PHOTOGRAPH."""

import sys

import numpy as np
from PIL import Image

import zdce
from zdce import backends

dark = np.asarray(Image.open(sys.argv[1]).convert("RGB"))
bright = zdce.enhance(dark)
reason = backends.cpp_missing("zdce._core")
if reason:
    sys.exit(reason)
if bright.mean() < 1.5 * dark.mean():
    sys.exit(f"mean level {dark.mean():.1f} became {bright.mean():.1f}, expected at least 1.5 times as much")
if "torch" in sys.modules:
    sys.exit("PyTorch was imported to brighten an array")
