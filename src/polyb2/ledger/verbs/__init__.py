"""Plain functions over a transaction, by subject: one code for all stores."""
