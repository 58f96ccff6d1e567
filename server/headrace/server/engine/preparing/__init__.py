"""What is done to the graph of a model as read, as its operator asks: shapes, what clients send, what they get."""
