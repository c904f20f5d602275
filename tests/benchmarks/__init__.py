"""Measurements side by side with others' tools; they print ratios and assert no time."""
