//! Whose directory this is.
