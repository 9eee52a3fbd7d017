"""Side-by-side benchmarks: ``zdce bench ops``, ``zdce bench train`` and ``zdce bench static``."""
