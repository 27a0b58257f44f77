//! The contract of [`Disk`](super::Disk) as checks that every implementation passes.
