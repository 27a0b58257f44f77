//! Finding the end of a tail.
