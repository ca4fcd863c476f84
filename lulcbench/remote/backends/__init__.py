"""One module per type of address. ``lulcbench.remote.stores`` finds their ``Store`` classes by URL scheme."""
