"""Lowering: what must be done, and where does it live?"""
