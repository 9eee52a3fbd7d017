"""`zdce serve`: a page to try networks on, and the same for programs. Pictures stay in memory."""
