"""Changes to a model's graph, made when it is read, that keep one client's data out of another client's answers."""
