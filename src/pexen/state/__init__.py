"""Remembering: the journal of a run, and reading it back. Knows neither planner nor pool, only the model's values."""
