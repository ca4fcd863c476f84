"""Single real data sets: ingesting them, and comparing releases made from them with what is known of the place."""
