"""Programs in other languages, which know the service by its protos alone."""
