//! The one binary: every role of a cluster, all of them in one process, and the commands that use them.
//!
//! - `server`: puts roles together and runs them until they are stopped. The only place that knows all roles:
//!   standalone is meta, one bookie and one serving node over in-memory pipes, with the same gRPC as between machines.
//! - `cli`: what may be said on the command line, and what each command does. Client commands use the public client
//!   library and nothing else, so that they can do nothing that a user's program cannot; but for `bench publish --unary`,
//!   which makes the calls of a program that has nothing but the generated client.
//! - `memory`: the allocator.
//! - `terminal`: log lines, errors with their causes, Ctrl-C.
//!
//! Nothing here decides anything about messages: the rules are in the pure crates `ledger`, `catalog` and `topic`,
//! the shells around them in `bookie`, `meta` and `serving`.

mod cli;
mod memory;
mod server;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    memory::keep_what_is_freed();
    let cli = cli::Cli::parse();
    terminal::start_log(cli.log.as_deref(), cli.command.is_server());
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::report(&error);
            match error.downcast_ref::<terminal::Interrupted>() {
                Some(_) => ExitCode::from(terminal::INTERRUPTED),
                None => ExitCode::FAILURE,
            }
        }
    }
}
