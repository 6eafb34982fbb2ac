"""Metrics, health and the page over HTTP while ``run`` or ``sync`` is up: they show, and change nothing.

``snapshot.py`` reads the engine's counters and, through a connection that cannot write, the ledger. ``overview.py``,
``days.py`` and ``history.py`` make values of that, ``templates/`` shows them, ``metrics.py`` exposes them to Prometheus.
"""
