"""Shells in guests by SSH, through the tunnel of the host that runs them, and their recordings."""
