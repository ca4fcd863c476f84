"""Pages and tables made from runs and reference scores."""
