"""Run: this request."""
