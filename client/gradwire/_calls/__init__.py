"""Calls: what is asked, and what is the answer?"""
