"""The story: discover, claim, transfer, recover, verify, clean up; one verb a module."""
