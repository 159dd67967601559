"""Deciding: a planner that cannot see the world. No clock, no thread, no file; the same verbs give the same answers."""
