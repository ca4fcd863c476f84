"""The worker that scores strangers' files in a confined process."""
