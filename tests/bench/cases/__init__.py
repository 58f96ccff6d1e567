"""What is measured, and what is demanded of it."""
