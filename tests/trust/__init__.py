"""Good requests among failing ones: no answer is another client's, whatever the runtime does in a failure."""
