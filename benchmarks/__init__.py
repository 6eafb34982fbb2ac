"""What polyb2 costs, side by side with its peers: ``python -m benchmarks --help``."""
