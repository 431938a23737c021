"""Graph: what was said, and is it allowed? Nodes in columns, ops, shapes, checks, identity."""
