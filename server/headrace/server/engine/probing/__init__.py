"""What is measured when a model loads: whether it runs directly, and how many rows a batch may have."""
