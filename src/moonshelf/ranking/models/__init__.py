"""What a user's past says about a product: one interest model a file, and the click model that reads them."""
