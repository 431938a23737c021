"""Stubs of the contract, generated from ``protos/`` by ``make protos``."""
