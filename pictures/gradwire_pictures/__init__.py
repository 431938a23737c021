"""Pictures of graphs that need more than text: a page for a browser, and images."""
