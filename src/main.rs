//! The one binary: every role of a cluster, all of them in one process, and the commands that use them.

mod cli;
mod server;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    terminal::start_log(cli.log.as_deref(), cli.command.is_server());
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::report(&error);
            ExitCode::FAILURE
        }
    }
}
