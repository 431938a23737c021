"""Small programs for the chores of the project; see the Makefile."""
