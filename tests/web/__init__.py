"""The page, the metrics and health over real sockets; the page also in a real browser."""
