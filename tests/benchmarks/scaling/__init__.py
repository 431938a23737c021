"""What a step of training costs with N workers, in every layout: ``python -m tests.benchmarks.scaling``."""
