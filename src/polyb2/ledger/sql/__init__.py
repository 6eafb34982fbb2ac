"""The statements of the ledger by name: those that all stores share, and the dialect of each."""
