"""Telling the owner: messages through apprise, and a ping for monitors that miss it. Nothing here ever hurts a transfer."""
