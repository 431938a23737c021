"""Telemetry: what happened, and is it well?"""
