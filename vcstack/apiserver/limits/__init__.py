"""Limits on requests: how many somebody may send, and how many are worked on at once."""
