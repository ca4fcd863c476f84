"""Steps of the multi-year study: regular series, reliable samples, pseudo-labels, networks, smoothing, selection."""
