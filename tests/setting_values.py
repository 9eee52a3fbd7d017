"""A value of each setting that changes results (bf16 with a unit for it), for tests of all settings."""

VALUES = {
    "scale": 4,
    "strength": 0.5,
    "precision": "bf16",
    "brightness": 0.4,
    "noise": 9.0,
    "shadows": 1.0,
    "highlights": 0.0,
    "transfer": "linear",
    "only_if_dark": True,
    "smoothing": 0.0,
    "quality": 30,
    "subsampling": "4:2:0",
    "strip": "gps",
    "crf": 40,
    "deinterlace": True,
}
