"""The command: what does a person at a terminal want done?"""
