"""Submissions to a leaderboard: model card, checks, upload."""
