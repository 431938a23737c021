"""The service behind Ray Serve: what the configuration of Serve names is in ``services`` and ``application``."""
