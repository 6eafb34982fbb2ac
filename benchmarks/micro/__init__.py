"""Single steps of polyb2, measured from inside or command by command."""
