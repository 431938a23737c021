"""Expressions: what did the user write?"""
