"""The website: JSON interface, pages, forms."""
