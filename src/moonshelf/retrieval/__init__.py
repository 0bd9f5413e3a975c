"""Room 7a: candidates for a query of any modality, and for what a user did before."""
