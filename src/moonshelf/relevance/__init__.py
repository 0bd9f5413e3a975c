"""Room 7b, relevance: how well a product answers a query, as a grade with a reason."""
