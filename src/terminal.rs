//! What a person at a terminal sees: log lines, errors, a clean end on Ctrl-C.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The exit code of a command that was stopped before its work was done, as shells have it for Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// The user stopped a command before its work was done.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: {0}")]
pub(crate) struct Interrupted(pub(crate) String);

/// Sends log lines to stderr: those of servers at `info`, those of other commands at `warn`, or as the filter says.
pub(crate) fn start_log(filter: Option<&str>, is_server: bool) {
    let default = if is_server { "info" } else { "warn" };
    let filter = EnvFilter::builder()
        .parse(filter.unwrap_or(default))
        .unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // What cannot be logged is no reason to fail: see `say`.
        .log_internal_errors(false)
        .init();
}

/// Says something that is no result of the command. Whoever listened may be gone, as when a server's output went through
/// `head`: that is no reason to fail, or not to stop.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints an error with its causes, each once.
pub(crate) fn report(error: &anyhow::Error) {
    say(format_args!("error: {error}"));
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        if !last.contains(&text) {
            say(format_args!("  because: {text}"));
        }
        last = text;
    }
}

/// A token that is cancelled by the first Ctrl-C or SIGTERM. A second one ends the process at once.
pub(crate) fn stop_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let told = token.clone();
    #[expect(
        clippy::disallowed_methods,
        reason = "signals belong to the process, not to a node"
    )]
    tokio::spawn(async move {
        signal().await;
        told.cancel();
        say("stopping; once more to stop at once");
        signal().await;
        #[expect(clippy::exit, reason = "the user asked twice")]
        std::process::exit(INTERRUPTED.into());
    });
    token
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        // Without handlers the default action ends the process, which is what was asked for.
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
