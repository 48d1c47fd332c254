"""Loaders: a data set in, augmented batches out; they differ in where the work is done, not in what comes."""
