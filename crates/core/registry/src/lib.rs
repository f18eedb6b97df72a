//! Folds the log of signed statements into the trusted state of a network.
