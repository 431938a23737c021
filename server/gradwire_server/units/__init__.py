"""Units: which rows are one piece of work, and what do they sum to?"""
