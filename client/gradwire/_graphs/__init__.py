"""Graphs: what does the contract have for an expression?"""
