"""From the source's listing into the queue."""
