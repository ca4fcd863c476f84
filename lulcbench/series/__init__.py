"""Regular time series of dated imagery: values on fixed days of a year, with spectral indices."""
