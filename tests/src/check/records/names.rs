//! Names as numbers: millions of events name a handful of writers, partitions and consumers.

use std::collections::HashMap;

/// A name, by its number in [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Word(u32);

/// All names of a history.
#[derive(Debug, Default)]
pub(crate) struct Names {
    by_text: HashMap<Box<str>, Word>,
    texts: Vec<Box<str>>,
}

impl Names {
    pub(crate) fn intern(&mut self, text: &str) -> Word {
        if let Some(&word) = self.by_text.get(text) {
            return word;
        }
        let word = Word(small(self.texts.len()));
        self.texts.push(text.into());
        self.by_text.insert(text.into(), word);
        word
    }

    pub(crate) fn text(&self, word: Word) -> &str {
        &self.texts[word.0 as usize]
    }
}

/// An index of a table. Tables are counted in 32 bits to keep them small.
///
/// # Panics
///
/// Past four thousand million rows, more than fit into memory.
pub(crate) fn small(index: usize) -> u32 {
    u32::try_from(index).expect("a history has fewer than 2^32 rows of a kind")
}
