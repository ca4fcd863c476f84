"""Single real data sets: converting them, and comparing releases made from them with what is known of the place."""
