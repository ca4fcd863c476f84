"""The tasks: what is learned, and by which loss."""
