"""The durable state: a queue of files with their revisions, attempts, uploads and receipts, behind `ledger.py`."""
