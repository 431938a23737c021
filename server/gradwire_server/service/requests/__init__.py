"""Requests: what was asked, and what is the answer?"""
