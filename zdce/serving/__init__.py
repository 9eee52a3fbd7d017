"""`zdce serve` and the server of `zdce live`: local pages and an HTTP interface. Pictures stay in memory."""
