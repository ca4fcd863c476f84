"""One module per kind of address. ``lulcbench.remote.stores`` finds the ``Store`` classes in them by their schemes."""
