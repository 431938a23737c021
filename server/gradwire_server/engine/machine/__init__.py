"""Machine: do it, fast."""
