//! The client: the way to producers, consumers and administration.

use std::sync::Arc;

use host::Host;
use proto::v1 as pb;
use proto::v1::routing_client::RoutingClient;
use types::Reason;

use crate::admin::Admin;
use crate::connect::{Connections, Shared};
use crate::consumer::ConsumerBuilder;
use crate::producer::ProducerBuilder;
use crate::{Error, api};

/// A client of a cluster. Clones share its connections; producers and consumers may outlive it.
///
/// ```no_run
/// # async fn example() -> Result<(), ledgerline_client::Error> {
/// use ledgerline_client::Client;
/// let client = Client::connect("http://127.0.0.1:7450,http://127.0.0.1:7451").await?;
/// let producer = client.producer("orders").create().await?;
/// producer.send("one coffee").await?.await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    shared: Shared,
}

/// Makes a [`Client`].
#[derive(Debug, Default)]
#[must_use = "nothing happens before `connect` or `build`"]
pub struct ClientBuilder {
    addresses: Vec<String>,
    host: Option<Host>,
}

impl ClientBuilder {
    /// Adds addresses of serving nodes, `http://host:port`, several with commas between. One that works is enough: it
    /// names the others. More are of use when that one is down.
    pub fn addresses(mut self, addresses: impl AsRef<str>) -> Self {
        let addresses = addresses.as_ref().split(',').map(str::trim);
        self.addresses
            .extend(addresses.filter(|one| !one.is_empty()).map(str::to_owned));
        self
    }

    /// The machine to run on, for tests: another network, clock and randomness.
    pub fn host(mut self, host: Host) -> Self {
        self.host = Some(host);
        self
    }

    /// Makes the client without asking any server yet.
    ///
    /// # Errors
    ///
    /// `BAD_FIELD` for an address that is none, or when there is none.
    pub fn build(self) -> Result<Client, Error> {
        let host = self.host.unwrap_or_else(|| Host::real("client"));
        let shared = Arc::new(Connections::new(host, self.addresses)?);
        Ok(Client { shared })
    }

    /// Makes the client and asks a server for a sign of life.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::build`]; `UNREACHABLE` when none of the addresses answers.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn connect(self) -> Result<Client, Error> {
        let addresses = self.addresses.len();
        let client = self.build()?;
        let mut last = None;
        for _ in 0..addresses {
            match client.ask().await {
                Ok(_) => return Ok(client),
                Err(error) => last = Some(error),
            }
            client.shared.next();
        }
        let cause = last.map(|error| error.to_string()).unwrap_or_default();
        let given = client.shared.given();
        let message = format!("no server answers at {given}; is one running there? ({cause})");
        Err(Error::new(Reason::Unreachable, message))
    }
}

impl Client {
    /// Connects to a cluster: any address of a serving node will do, several are given with commas between.
    ///
    /// # Errors
    ///
    /// `BAD_FIELD` for an address that is none; `UNREACHABLE` when none of them answers.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn connect(addresses: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder().addresses(addresses).connect().await
    }

    /// A client with settings.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A producer for a topic, by its short or full name.
    pub fn producer(&self, topic: impl AsRef<str>) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(&self.shared), topic.as_ref())
    }

    /// A consumer of a subscription: `{topic}/subscriptions/{subscription}`.
    pub fn consumer(&self, subscription: impl AsRef<str>) -> ConsumerBuilder {
        ConsumerBuilder::new(Arc::clone(&self.shared), subscription.as_ref())
    }

    /// Tenants, namespaces, topics, subscriptions, and how everything stands.
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.shared))
    }

    /// What the server is that answers first.
    ///
    /// # Errors
    ///
    /// `UNREACHABLE` when none answers.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn server_info(&self) -> Result<api::ServerInfo, Error> {
        let ask = |channel| async move {
            RoutingClient::new(channel)
                .get_server_info(pb::GetServerInfoRequest {})
                .await
        };
        self.shared.call(true, ask).await
    }

    /// Asks one server once.
    async fn ask(&self) -> Result<api::ServerInfo, Error> {
        let mut server = RoutingClient::new(self.shared.any()?);
        let patience = std::time::Duration::from_secs(3);
        let asked = server.get_server_info(pb::GetServerInfoRequest {});
        match self.shared.host.clock.timeout(patience, asked).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Error::new(Reason::Unreachable, "no answer within 3 s")),
        }
    }
}
