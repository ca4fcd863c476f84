"""The worker, and the process with limited resources in which it scores untrusted files."""
