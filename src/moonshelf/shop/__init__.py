"""Data in: read a shop folder, audit its images, clean, deduplicate and split it."""
