"""Capacity: is there room for it, whose turn is it, and how long may it take?"""
