//! Ledgers in whose copies the engine found damage, from whoever finds it to the repair.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use types::LedgerId;

/// Most ledgers that are remembered; what is beyond is found again by the next scrub.
const MOST: usize = 100_000;

/// The damaged ledgers that nobody has looked at yet. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(in crate::node) struct Damage(Arc<Mutex<BTreeSet<LedgerId>>>);

impl Damage {
    /// Notes ledgers.
    pub(in crate::node) fn found(&self, ledgers: &[LedgerId]) {
        let mut known = self.lock();
        let room = MOST.saturating_sub(known.len());
        known.extend(ledgers.iter().take(room).copied());
    }

    /// Takes what was found.
    pub(super) fn take(&self) -> BTreeSet<LedgerId> {
        std::mem::take(&mut *self.lock())
    }

    /// Valid after each statement.
    fn lock(&self) -> MutexGuard<'_, BTreeSet<LedgerId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
