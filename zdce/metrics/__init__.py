"""Measures of results: with references and without."""
