"""The command line: parse, build the settings, run, print, and turn the outcome into an exit code."""
