"""The queue at work: slots, claims, the lease, and the settlement of each attempt."""
