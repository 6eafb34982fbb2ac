"""A lean S3 server, so that the client is what a benchmark measures."""
