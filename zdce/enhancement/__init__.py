"""Enhancement of pictures and videos: single ones, batches of files, and steps of pipelines."""
