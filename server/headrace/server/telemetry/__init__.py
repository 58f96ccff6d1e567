"""What the server tells its operator. None of it waits for a reader."""
