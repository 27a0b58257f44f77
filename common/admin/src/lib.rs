//! The admin port: how a process does, over plain HTTP, for monitors and orchestrators.
//!
//! [`Admin::start`] serves `/metrics`, `/healthz` and `/readyz` at an address of its own. What it shows comes from the
//! host: numbers from `host::metrics`, readiness from `host::Health`, health from `host::Tasks`. So no role knows this
//! crate, and this crate knows no role; whoever composes a process starts it beside them.
#![doc = include_str!("../DESIGN.md")]

mod answer;
mod process;
mod server;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use host::net::Address;
use host::{Host, Tasks};

use answer::Answers;
use process::Process;

/// How long a stop waits for answers under way.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// The admin port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "the admin port cannot be opened; choose another with --admin-listen HOST:PORT, or none with --admin-listen off \
     address={address}"
)]
pub struct AdminError {
    address: Address,
    source: io::Error,
}

/// An open admin port. It stays open while the node's tasks stop, and after they failed: until [`Admin::stop`].
#[derive(Debug)]
pub struct Admin {
    address: Address,
    tasks: Tasks,
    /// Told as long as the port is open.
    _process: Arc<Process>,
}

impl Admin {
    /// Opens the port. Start it before the roles: it then says what the process waits for.
    ///
    /// # Errors
    ///
    /// [`AdminError`]: the address is taken, or none of this machine.
    pub async fn start(host: &Host, listen: &Address) -> Result<Self, AdminError> {
        let incoming = host.net.listen(listen).await;
        let incoming = incoming.map_err(|source| AdminError {
            address: listen.clone(),
            source,
        })?;
        let address = incoming.local.clone();
        let process = Arc::new(Process::new(&host.clock));
        host.metrics.add(&process);
        let answers = Answers {
            metrics: host.metrics.clone(),
            health: host.health.clone(),
            node: host.tasks.clone(),
        };
        // A tree of its own: it outlives the node's, and a defect here does not end the node.
        let tasks = Tasks::new("admin");
        let host = host.clone().with_tasks(tasks.clone());
        tasks.spawn("accept", server::accept(host, incoming, answers));
        tracing::info!(%address, "admin port open");
        Ok(Self {
            address,
            tasks,
            _process: process,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Closes the port; answers under way are cut off.
    pub async fn stop(self) {
        if let Err(error) = self.tasks.stop(STOP_WITHIN).await {
            tracing::warn!(%error, "the admin port did not close well");
        }
    }
}
