"""`make bench`: Headrace beside what limits it, as ratios measured in one run on one machine."""
