"""From a data set and a budget to a net: what the data are like, a plan, candidates, and which of them is taken."""
