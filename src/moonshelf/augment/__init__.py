"""Room 2, better data: texts enriched from what is known of a product, photos cut out and set into other scenes."""
