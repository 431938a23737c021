"""Process: how does the server start, and how does it end?"""
