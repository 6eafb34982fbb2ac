"""The life of a file: discover it, claim it, transfer it, recover it, verify it, clean up after it."""
