//! What a server says when it is ready.

use std::fmt::Display;

/// A few lines: who, where, how safe, and what to try next.
pub(super) struct Banner {
    text: String,
}

impl Banner {
    pub(super) fn new(role: &str) -> Self {
        Self {
            text: format!("ledgerline {} {role} is ready\n", env!("CARGO_PKG_VERSION")),
        }
    }

    pub(super) fn line(mut self, label: &str, value: impl Display) -> Self {
        self.text.push_str(&format!("  {label:<14}{value}\n"));
        self
    }

    pub(super) fn try_next(mut self, commands: &[&str]) -> Self {
        for (index, command) in commands.iter().enumerate() {
            let label = if index == 0 { "try" } else { "" };
            self.text.push_str(&format!("  {label:<14}{command}\n"));
        }
        self
    }

    pub(super) fn print(self) {
        // At once: whoever started the server may be waiting for these lines behind a pipe.
        crate::cli::client::print(&self.text);
    }
}
