"""The cost model of docs/scaling.md and its simulation."""
