"""Notifications to the owner: messages through apprise, and a heartbeat. Nothing here ever affects a transfer."""
