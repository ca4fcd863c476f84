"""The leaderboard service: submissions become ranked, immutable results."""
