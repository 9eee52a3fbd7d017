"""What kernels over interleaved pictures share."""

import torch

# What 1 is in memory.
WHITE = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.float32: 1.0}
