"""Ranking of results: summaries, tables, paired tests, self-reported scores."""
