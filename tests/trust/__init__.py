"""Good requests beside failing ones: no answer is another client's, whatever the runtime makes of a failure."""
