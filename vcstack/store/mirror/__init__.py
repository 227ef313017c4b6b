"""The mirror: current state and full history of every object in PostgreSQL, for queries the store does not serve."""
