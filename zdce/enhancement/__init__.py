"""Pictures and videos enhanced: single ones, files in batches, in pipelines."""
