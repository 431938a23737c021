"""Numbers in compiled loops."""
