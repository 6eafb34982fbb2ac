"""Output of commands for people, on stdout; and the live display.

Loaded by a command that is about to print, never with the command line: what draws takes as long to load as the whole rest
of ``--help``.
"""
