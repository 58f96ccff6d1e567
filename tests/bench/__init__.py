"""`make bench`: Headrace compared with its limits, as ratios measured in one run on one machine."""
