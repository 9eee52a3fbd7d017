"""Constants of the rules that say which scenes are dark, and how strong their curves have to be.

csrc/core/scene.cpp has them under the same names. Shares are of a scene's pixels or area means.
"""

# Every rule.

# Side of a scene's thumbnail: so coarse that noise and texture have no effect on area means.
SIDE = 64

# Pixels are black up to two levels of 255, in all colours: the black of a night does not make a scene dark.
BLACK = 2.5 / 255

# Value that is white in 8 bits.
WHITE = 254.5 / 255

# The target mean is `brightness * (mean / REFERENCE_MEAN) ** exponent`: a scene with this mean is brought to `brightness`.
REFERENCE_MEAN = 0.05

# Upper bound of the target mean, unless `brightness` is higher.
HIGHEST_TARGET = 0.5

# Share that the curve may make white in some colour. In SIDE x SIDE pixels it has a sampling error of 0.1 %, so the share in
# the picture stays below 0.5 %.
CLIPPED_SHARE = 0.003

# Share that is not black below which the effect falls linearly, because few pixels say little about the scene.
MEANINGFUL_SHARE = 0.05

# Maps that do not follow edges (zdce/ops/scene_strength.py).

# Upper bound of the strength: larger values no longer brighten but flatten, because most maps are at their limit of 1.
HIGHEST_STRENGTH = 2.0

# Halvings of the interval from 0 to HIGHEST_STRENGTH. The remaining 2 / 2^15 change the brightness by a hundredth of a level,
# so that implementations with other rounding give the same pictures.
HALVINGS = 15

# Exponent of the target mean: 0.4 of the differences between scenes, in stops, remain: a darker scene should stay darker.
TARGET_EXPONENT = 0.4

# Scenes with a mean below the first share of `brightness` are brought to their target, those above the second stay as they
# are; between them the part of the way falls linearly.
DARK_BELOW, LIT_ABOVE = 0.4, 0.9

# Share that is not black below which black counts as the night around the scene, and the target falls linearly.
FULL_SHARE = 0.75

# Darkness of a picture (zdce/models/darkness.py), and guided maps (zdce/models/guided_scene.py). The photographs are those of
# `open`.

# Mean luma of the darker half of a scene's area means: 0.25 in the well-lit photographs, with a standard deviation of 0.08.
# Scenes above this value, 1.1 deviations below that mean, are lit.
LIT_HALF = 0.16

# Share of the brighter half's mean that replaces that value if it is larger, as in a backlit scene. In the well-lit photographs
# the darker half has at least 0.29 of the brighter one, except for two low-key ones.
BACKLIT = 0.3

# Shares that are not black. From the second on, black is shadow and belongs to the darker half. Down to the first its weight
# falls linearly to 0: black is then the night around the scene.
NIGHT_SHARE, SHADOW_SHARE = 0.6, 0.8

# Guided maps alone.

# Upper bound of the strength, larger than that of other maps because guided ones are means of windows.
HIGHEST_GUIDED_STRENGTH = 4.0

# Halvings of the interval from 0 to HIGHEST_GUIDED_STRENGTH. The remaining 4 / 2^16 change the brightness by a hundredth of a
# level.
GUIDED_HALVINGS = 16

# Exponent of the target mean: of another scene's distance in stops, 0.2 remain.
GUIDED_TARGET_EXPONENT = 0.2

# Mean luma of the brighter half in the well-lit photographs, and its standard deviation.
BRIGHTER_HALF, BRIGHTER_HALF_DEVIATION = 0.58, 0.125

# The darker half has 0.43 of the brighter half's luma in the mean of these photographs. That is what a backlit scene is brought
# to at the usual brightness of 0.38, and to less or more as another brightness is asked for.
BALANCE = 0.43 / 0.38

# Luma over which maps fall at least. Only scenes that are lit, and have no maps, have halves that are closer.
SHORTEST_FALL = 0.1

# Scenes whose darker half has no more than this share of the luma of lit ones are wholly dark. From there to 1 the part of the
# way to the target falls linearly.
WHOLLY_DARK = 0.875

# Shares that are not black: 0.9 and more in the well-lit photographs. From there down to the second a scene is more and more a
# night.
NIGHT_FROM, NIGHT_BELOW = 0.9, 0.7

# The same share where black is half of the scene. From NIGHT_SHARE down to it a scene is more and more a night, lamps or not.
HALF_BLACK = 0.5

# Stops of light by which the mean of a night may rise.
NIGHT_STOPS = 2 / 3

# Area means that count as the brightest: a thousandth of them, so that none decides alone.
BRIGHTEST = SIDE * SIDE // 1000

# Stops of light from the brightest area means down to the mean luma of the brighter half. In these photographs there are 3.4 at
# most, in dark interiors with black corners and bright windows up to 4.9 (`ladder`). Lamps are further above the rest.
LAMPS_FROM, LAMPS = 4.9, 5.3

# Stops from the brightest area means down to what is black in a night, and to where it begins to be: 8 in the mean.
# In the photographs 3 % of the area means at most are further down, but for what is black in the file.
BLACK_STOPS, DIM_STOPS = 9.0, 7.0

# Share that is not black below which the target falls with its cube: more than a third of black surrounds the scene, and the
# rest should not make up for it.
TARGET_SHARE = 0.65

# Pixels of the longer side of an image that a scene is read from, unless the network's is longer.
LONGEST = 8192

# Lower bound of light that is divided by: less than that of the darkest level above black.
LEAST_LIGHT = 1e-6
