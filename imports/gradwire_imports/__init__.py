"""Imports: what does a model of another framework compute?"""
