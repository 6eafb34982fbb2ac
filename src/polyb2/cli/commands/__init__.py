"""The commands: each reads its options, opens what it needs, and prints; what it decides is decided below."""
