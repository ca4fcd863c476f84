"""Validation of releases of single real data sets against other data of the same area: tables and figures."""
