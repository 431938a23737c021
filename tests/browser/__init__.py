"""The page of a trace, in a real browser."""
