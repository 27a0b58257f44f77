//! Streams of a consumer, as somebody who wants to know hears of them.

use std::fmt;
use std::sync::Arc;

/// A stream begins or ends. Numbers go up with each stream that worked; [`Received::session`](super::Received::session)
/// says on which one a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionChange {
    /// The server is about to be asked for this stream. Told again, under the same number, for each further try.
    Opens(u64),
    /// It is over, or could not be opened. Nothing that was not taken yet comes from it any more.
    Ends(u64),
}

/// Who hears of it.
#[derive(Clone, Default)]
pub(super) struct Observer(Option<Arc<dyn Fn(SessionChange) + Send + Sync>>);

impl Observer {
    pub(super) fn new(tell: impl Fn(SessionChange) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(super) fn tell(&self, change: SessionChange) {
        if let Some(tell) = &self.0 {
            tell(change);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}
