"""Worker processes train a classifier on real data through one gradwire server: ``make demo``."""
