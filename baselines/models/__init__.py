"""The models: networks, and the simple models that they are compared with."""
