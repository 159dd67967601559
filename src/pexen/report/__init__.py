"""What people and other programs see of a run: observers of its events, which cannot influence it."""
