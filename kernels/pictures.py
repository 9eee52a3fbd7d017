"""Shared parts of kernels for interleaved pictures."""

import torch

# Values of white.
WHITE = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.float32: 1.0}
