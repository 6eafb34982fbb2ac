"""The queue at work: slots, claims, the lease, and how each attempt is settled."""
