"""Policies: which concern an object, and what they say of it. Expressions run in a process of their own."""
