"""Pictures: what does a graph look like?"""
