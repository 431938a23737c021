"""Configuration: what was the server told to do, and what does it refuse to take on?"""
