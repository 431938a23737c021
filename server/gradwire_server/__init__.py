"""The gradient service: `gradwire serve`."""
