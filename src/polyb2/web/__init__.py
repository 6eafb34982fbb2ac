"""Metrics, health and the page, over HTTP while ``run`` or ``sync`` is up: to look at, never to act.

Read-only: GET and HEAD. Everything is read from the engine's counters and, through a connection of its own that cannot
write, from the ledger; at most once a second, however many ask.
"""
