"""What is sent to a leaderboard, and sending it."""
