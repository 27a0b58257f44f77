//! The connections to one bookie: one for adds and recovery, one for runs, so that a long catch-up never stands
//! before an add in the same connection.

use std::sync::{Mutex, PoisonError};

use host::net::Address;
use proto::bookie_v1::bookie_client::BookieClient;
use proto::transport::{self, ChannelOptions};
use tonic::transport::Channel;
use types::BookieId;

use super::Shared;

/// Which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Adds, and the small reads of recovery.
    Adds,
    /// Runs of entries.
    Runs,
}

/// The connections, made on first need, and anew when meta names another address.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    address: String,
    adds: Channel,
    runs: Channel,
}

impl Lanes {
    /// A client of the bookie at the address that meta names now.
    pub(super) fn client(
        &self,
        shared: &Shared,
        bookie: BookieId,
        lane: Lane,
    ) -> Result<BookieClient<Channel>, String> {
        let channel = self.channel(shared, bookie, lane)?;
        Ok(BookieClient::new(channel)
            .max_decoding_message_size(transport::INTERNAL_MESSAGE_MAX)
            .max_encoding_message_size(transport::INTERNAL_MESSAGE_MAX))
    }

    /// A connection to the bookie at the address that meta names now.
    pub(super) fn channel(
        &self,
        shared: &Shared,
        bookie: BookieId,
        lane: Lane,
    ) -> Result<Channel, String> {
        let record = shared
            .directory
            .bookie(bookie)
            .ok_or("meta does not know this bookie")?;
        // One value, replaced in one statement.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open
            .as_ref()
            .is_none_or(|open| open.address != record.address)
        {
            let address = Address::new(record.address.clone());
            *open = Some(Open {
                address: record.address,
                adds: transport::channel_with(
                    &shared.host.net,
                    &address,
                    &ChannelOptions::attentive(),
                ),
                runs: transport::channel(&shared.host.net, &address),
            });
        }
        let channel = open.as_ref().map(|open| match lane {
            Lane::Adds => open.adds.clone(),
            Lane::Runs => open.runs.clone(),
        });
        channel.ok_or_else(|| "no connection".to_owned())
    }
}
