//! What a node counts, for whoever watches it.
//!
//! A part of a node holds its numbers itself: plain atomics ([`Counter`], [`Gauge`], [`Histogram`]) that cost a few
//! nanoseconds to move, or values it has anyway. It writes them onto a [`Page`] when somebody asks, as a [`Source`] of
//! the [`Registry`] that comes with its host; so nodes that share a process share nothing else.
//!
//! Names are `ledgerline_<role>_<noun>_<unit>` in base units; what only grows ends in `_total`. Labels have few values,
//! known beforehand: never a topic, a subscription or a client.

mod page;
mod values;

pub use page::Page;
pub use values::{Counter, Gauge, Held, Histogram, LATENCY};

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Something that has numbers to tell.
pub trait Source: Send + Sync + 'static {
    /// Writes all of them onto the page, now. Called beside the node's work: it waits for nothing.
    fn write(&self, page: &mut Page);
}

/// The sources of a node, or of all that share a host. Clones are the same registry.
///
/// It keeps none of them alive: one that is gone is no longer asked. Two that tell a number of the same name and labels
/// are told as their sum.
#[derive(Clone, Default)]
pub struct Registry {
    sources: Arc<Mutex<Vec<Weak<dyn Source>>>>,
}

impl Registry {
    /// Adds a source, for as long as somebody else keeps it.
    pub fn add(&self, source: &Arc<impl Source>) {
        let weak: Weak<dyn Source> = Arc::downgrade(source) as Weak<dyn Source>;
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|known| known.strong_count() > 0);
        sources.push(weak);
    }

    /// Asks every source.
    pub fn page(&self) -> Page {
        // Nothing is asked under the lock.
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let sources: Vec<_> = sources.iter().filter_map(Weak::upgrade).collect();
        let mut page = Page::default();
        for source in sources {
            source.write(&mut page);
        }
        page
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "Registry({})", sources.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shards(u64);

    impl Source for Shards {
        fn write(&self, page: &mut Page) {
            page.gauge("shards", "Shards.", &[], self.0);
        }
    }

    #[test]
    fn sources_are_summed_and_one_that_is_gone_is_not_asked() {
        let registry = Registry::default();
        let (one, other) = (Arc::new(Shards(2)), Arc::new(Shards(3)));
        registry.add(&one);
        registry.clone().add(&other);
        assert!(registry.page().to_string().contains("\nshards 5\n"));
        drop(one);
        assert!(registry.page().to_string().contains("\nshards 3\n"));
    }
}
