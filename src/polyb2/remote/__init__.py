"""The outside: the source and the target, with their requests signed, paced, retried and their errors classed."""
