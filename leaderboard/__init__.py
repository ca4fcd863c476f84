"""The leaderboard service: scores submissions and ranks them; results are immutable."""
