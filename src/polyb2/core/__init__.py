"""The decisions of polyb2, without carrying any of them out: no I/O, no event loop, no clock."""
