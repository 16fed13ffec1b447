//! The store against the simplest thing that could be right.
