"""Image content: receiving, checking, keeping and sending it."""
