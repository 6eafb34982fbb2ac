"""The ledger in a SQLite file, for any number of processes of one host."""
