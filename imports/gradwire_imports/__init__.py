"""Imports: what does a model of another framework compute, and how does it compute a loss of gradwire?"""
