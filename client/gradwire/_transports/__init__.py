"""Transports: how do calls reach an engine, and their answers come back?"""
