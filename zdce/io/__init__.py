"""Reading and writing of picture and video files, with their metadata."""
