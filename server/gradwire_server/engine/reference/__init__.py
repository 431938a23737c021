"""Reference: what does it mean?"""
