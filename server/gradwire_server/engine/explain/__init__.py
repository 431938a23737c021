"""Explain: show me, and is it right?"""
