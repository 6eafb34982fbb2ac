"""The preflight of ``polyb2 doctor``: everything that can be wrong on the first day, found before the first byte moves.

Each check is one line with what to do. A check that fails skips those that need it, and nothing is left behind in the bucket.
"""
