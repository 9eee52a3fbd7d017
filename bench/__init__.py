"""Benchmarks: ``zdce bench ops``, ``zdce bench static`` and ``zdce bench flicker``."""
