"""Strange places: what containers, cron, systemd, shells, limits, locales, clocks and networks do to a run.

Each place mirrors three files for real, or says in words why it cannot; a traceback, an error that is called unexpected, a
process that has to be killed, or a ledger that is damaged is a violation everywhere. What a place needs and is not there
(root, a program of ``tools/install-fault-tools.sh``) makes it skipped, and its row says so.
"""

from tests.faults.places import clocks, containers, environments, folders, limits, network, streams
from tests.faults.places.place import PLACES, play_in

__all__ = ["PLACES", "clocks", "containers", "environments", "folders", "limits", "network", "play_in", "streams"]
