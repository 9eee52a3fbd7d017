"""Picture and video files: read, written, with what they carry."""
