"""A small shop: the functions of one application, what they work with, and the list that names them."""
