"""Side-by-side benchmarks: ``zdce bench ops`` and ``zdce bench static``."""
