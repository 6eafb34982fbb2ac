"""Durable truth: one SQLite database, its schema, its statements and the verbs of the queue."""
