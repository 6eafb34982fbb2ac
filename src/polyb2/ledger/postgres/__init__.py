"""The store on PostgreSQL: one ledger for many hosts."""
