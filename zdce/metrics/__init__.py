"""Measures of results, with references and without, the simple methods beside them, and comparisons of networks."""
