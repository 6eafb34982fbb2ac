"""Mirror Polygon.io (Massive) flat files into a Backblaze B2 bucket.

ARCHITECTURE.md beside the sources tells how the parts fit.
"""

__version__ = "0.1.0"
