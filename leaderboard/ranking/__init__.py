"""From results to a ranked table."""
