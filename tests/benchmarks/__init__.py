"""Measurements against other libraries and services: ``make bench``."""
