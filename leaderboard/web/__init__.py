"""The web site: JSON API, pages, forms."""
