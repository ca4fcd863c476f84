"""Training: the loop that all networks share, and what it leaves behind."""
