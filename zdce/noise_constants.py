"""Constants of the noise that is measured in pictures, and of its removal.

csrc/core/picture_noise.cpp, denoise_picture.cpp and kernels/denoise_picture.h have them too.
"""

# Measured noise (zdce/ops/picture_noise.py). Levels are of 255.

# Side of a block in pixels, and blocks in a row and in a column, about: 100,000 pixels of a picture of any size.
BLOCK_SIDE, BLOCKS_ACROSS = 16, 20

# Blocks that are darker or have brighter pixels are left out: what is cut off at black or white has less noise.
DARKEST, BRIGHTEST = 4.0, 250.0

# With fewer blocks the noise counts as 0.
FEWEST_BLOCKS = 8

# One of so many blocks counts: the flattest. Others have more texture.
BLOCKS_PER_FLAT = 5

# Upper bound in levels: beyond it, a fine regular pattern is likelier than noise.
MOST_NOISE = 10.0

# Removal (zdce/ops/denoise_picture.py). Values are fractions of white.

# Term in the divisor that keeps the slope of black finite.
BLACK_TERM = 1e-3

# Term in the divisor that keeps the share of flat pictures without grain finite.
FLAT_TERM = 1e-12

# Weight of a pixel itself beside the square of its limit, in levels: it keeps the pixel unchanged where the limit is 0, and
# exporters do not round it to 0.
OWN_WEIGHT = 1e-6

# Added noise from which on chroma is blurred fully.
FULL_BLUR = 2 / 255

# Colour of a well-lit photograph: root mean square of a pixel's three differences to its luma, in the median of `open`.
COLOR = 25 / 255

# Greatest error of colours that the blur leaves: of black levels, 8 bits and large grain. Noise beyond it is fine and blurred.
COLOR_ERROR = 1.4 / 255

# Upper bound of the result, unless the colour was brighter before: averages can exceed white.
BELOW_WHITE = 254 / 255


def block_distances(height: int, width: int) -> tuple[int, int]:
    """Rows and columns from one measured block to the next."""
    down, across = (max(BLOCK_SIDE, (side - BLOCK_SIDE) // (BLOCKS_ACROSS - 1)) for side in (height, width))
    return down, across
