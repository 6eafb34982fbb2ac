"""One claimed file, from its claim to its proof; :mod:`~polyb2.flow.transfer.attempt` tells it from top to bottom."""
