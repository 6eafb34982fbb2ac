"""Inspection of the ledger, the source and the bucket; repairs by queueing, and never sends a file itself."""
