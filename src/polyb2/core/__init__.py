"""What polyb2 decides, without doing any of it: no I/O, no event loop, no clock."""
