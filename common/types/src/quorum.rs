//! How many bookies store an entry, and how many must have it on disk before it counts.

use std::fmt;

/// The copies written (Qw) and the copies on disk before an entry is acked (Qa). Written `3/2`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quorum {
    write: u8,
    ack: u8,
}

/// Why two numbers make no quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// One of them is zero or above [`Quorum::MAX`].
    #[error("a quorum has 1 to {max} copies write={write} ack={ack}", max = Quorum::MAX)]
    OutOfRange {
        /// The copies written.
        write: u8,
        /// The copies waited for.
        ack: u8,
    },
    /// With more than one copy, fewer must be waited for than are written: else one dead bookie stops everything
    /// and recovery needs a spare.
    #[error("with more than one copy, ack must be below write write={write} ack={ack}")]
    NoSlack {
        /// The copies written.
        write: u8,
        /// The copies waited for.
        ack: u8,
    },
}

impl Quorum {
    /// Most copies of an entry.
    pub const MAX: u8 = 7;
    /// One copy, for one machine.
    pub const ONE: Self = Self { write: 1, ack: 1 };
    /// The default of a cluster: three copies, two on disk before the ack.
    pub const THREE_TWO: Self = Self { write: 3, ack: 2 };

    /// Checks and makes a quorum.
    ///
    /// # Errors
    ///
    /// [`QuorumError`] says which rule the numbers break.
    pub const fn new(write: u8, ack: u8) -> Result<Self, QuorumError> {
        if write == 0 || ack == 0 || write > Self::MAX || ack > Self::MAX {
            return Err(QuorumError::OutOfRange { write, ack });
        }
        if ack > write || (write > 1 && ack == write) {
            return Err(QuorumError::NoSlack { write, ack });
        }
        Ok(Self { write, ack })
    }

    /// Copies written: the size of the ensemble.
    pub const fn write(self) -> usize {
        self.write as usize
    }

    /// Copies on disk before an entry is acked.
    pub const fn ack(self) -> usize {
        self.ack as usize
    }

    /// The answers recovery needs before it may go on: with this many, no ack quorum can be hidden (Qw − Qa + 1).
    pub const fn recovery(self) -> usize {
        self.write() - self.ack() + 1
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.write, self.ack)
    }
}

impl fmt::Debug for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.write, self.ack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_copy_may_wait_for_all() {
        assert!(Quorum::new(1, 1).is_ok());
        assert!(Quorum::new(3, 2).is_ok());
        assert_eq!(
            Quorum::new(2, 2),
            Err(QuorumError::NoSlack { write: 2, ack: 2 })
        );
        assert_eq!(
            Quorum::new(2, 3),
            Err(QuorumError::NoSlack { write: 2, ack: 3 })
        );
        assert_eq!(
            Quorum::new(0, 0),
            Err(QuorumError::OutOfRange { write: 0, ack: 0 })
        );
        assert_eq!(
            Quorum::new(8, 1),
            Err(QuorumError::OutOfRange { write: 8, ack: 1 })
        );
    }

    #[test]
    fn recovery_answers_and_ack_quorum_always_overlap() {
        for write in 1..=Quorum::MAX {
            for ack in 1..=Quorum::MAX {
                if let Ok(quorum) = Quorum::new(write, ack) {
                    assert!(quorum.recovery() + quorum.ack() > quorum.write());
                }
            }
        }
    }
}
