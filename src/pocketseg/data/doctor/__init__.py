"""The doctor: everything that is wrong or suspicious about a data set."""
