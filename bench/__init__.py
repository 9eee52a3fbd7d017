"""Benchmarks, checked for correctness, beside other libraries: ``zdce bench``."""
