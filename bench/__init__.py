"""Benchmarks, checked and side by side: ``zdce bench``."""
