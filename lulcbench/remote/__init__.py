"""Files of releases over the network: addresses, stores, the Hugging Face hub."""
