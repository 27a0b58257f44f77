//! The operator's last resort for a ledger that cannot be recovered.

use super::servers::{Addresses, addresses};
use super::threads::Threads;
use anyhow::{Context, bail};
use bookie_client::{BookiePool, Directory, Order, PoolConfig, PoolEvent};
use clap::{ArgGroup, Args, Subcommand};
use host::Host;
use host::net::Address;
use ledger::{Answer as BookieAnswer, Request};
use meta_client::{MetaClient, MetaConfig};
use std::sync::Arc;
use std::time::Duration;
use types::chain::{LedgerRecord, LedgerState};
use types::command::{Answer, Command, Query};
use types::storage::{Read, ReadResult};
use types::{EntryId, LedgerId, LedgerSeq, LogId, Offset};

/// How long bookies may take to give the last entry.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ledgers.
#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Give up the end of a ledger that cannot be recovered, for ever.
    ///
    /// A serving node that cannot open a topic says which ledger it waits for, and which bookies. Bring those bookies
    /// back if you can: nothing is lost then. Only if they are gone for good, name the last entry to keep; everything
    /// after it is given up, acked or not. Who did it and why is kept in the metadata.
    AcceptLoss(AcceptLoss),
}

/// Give up the end of a ledger.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("end").required(true).args(["last", "empty"])))]
pub(crate) struct AcceptLoss {
    /// The ledger, as the serving node names it: LOG/SEQUENCE, such as 17/0.
    #[arg(value_parser = ledger)]
    ledger: LedgerId,

    /// The meta service; where there are several processes of it, all of them.
    #[arg(
        long,
        env = "LEDGERLINE_META",
        default_value = "127.0.0.1:7460",
        value_name = "HOST:PORT,…",
        value_parser = addresses
    )]
    meta: Addresses,

    /// The last entry to keep. At least one bookie must have it.
    #[arg(long, env = "LEDGERLINE_LAST", value_name = "ENTRY")]
    last: Option<u64>,

    /// Keep no entry of the ledger at all.
    #[arg(long, env = "LEDGERLINE_EMPTY")]
    empty: bool,

    /// Who decides this, and why.
    #[arg(long, env = "LEDGERLINE_REASON")]
    reason: String,

    /// Do it. Without this, only what would be given up is said.
    #[arg(long, env = "LEDGERLINE_YES_GIVE_UP_DATA")]
    yes_give_up_data: bool,
}

fn ledger(text: &str) -> Result<LedgerId, String> {
    let expected = "expected LOG/SEQUENCE, such as 17/0";
    let (log, seq) = text.split_once('/').ok_or(expected)?;
    let log = log.parse().map_err(|_| expected)?;
    let seq = seq.parse().map_err(|_| expected)?;
    Ok(LedgerId::new(LogId::new(log), LedgerSeq::new(seq)))
}

impl Ledger {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self::AcceptLoss(args) = self;
        crate::server::run(Threads::default(), args.run())
    }
}

impl AcceptLoss {
    #[expect(
        clippy::print_stdout,
        reason = "this is where the command speaks to a person"
    )]
    async fn run(self) -> anyhow::Result<()> {
        let host = Host::real("ledgerline");
        let config = MetaConfig::new(self.meta.0.iter().map(Address::new).collect());
        let meta = MetaClient::connect(&host, config, Duration::from_secs(5)).await?;
        let record = match meta.query(Query::Ledgers(vec![self.ledger])).await? {
            Answer::Ledgers(records) => records.into_iter().next(),
            _ => None,
        };
        let record = record.with_context(|| format!("there is no ledger {}", self.ledger))?;
        if !matches!(record.state, LedgerState::Recovering { .. }) {
            bail!(
                "ledger {} is not waiting for recovery, so nothing has to be given up: {:?}",
                self.ledger,
                record.state
            );
        }
        let last = self.last.map(EntryId::new);
        let next_offset = match last {
            Some(entry) => Some(next_offset(&host, &meta, &record, entry).await?),
            None => None,
        };
        let kept = last.map_or_else(|| "nothing".to_owned(), |last| format!("up to {last}"));
        if !self.yes_give_up_data {
            println!(
                "ledger {}: {kept} would be kept, everything after it given up. Add --yes-give-up-data to do it.",
                self.ledger
            );
            return Ok(());
        }
        meta.execute(Command::AcceptLoss {
            ledger: self.ledger,
            last,
            next_offset: next_offset.unwrap_or_default(),
            reason: self.reason,
            at: host.clock.wall(),
        })
        .await?;
        println!(
            "ledger {}: closed, {kept} kept. The topic opens at its next use.",
            self.ledger
        );
        Ok(())
    }
}

/// The offset after an entry, from any bookie that has it whole.
async fn next_offset(
    host: &Host,
    meta: &MetaClient,
    record: &LedgerRecord,
    entry: EntryId,
) -> anyhow::Result<Offset> {
    let Answer::Bookies(bookies) = meta.query(Query::Bookies).await? else {
        bail!("meta answered another question than was asked");
    };
    let (_bookies, known) = tokio::sync::watch::channel(Arc::from(bookies));
    let directory = Directory::new(known);
    let pool = BookiePool::new(host, PoolConfig::default(), meta.cluster(), directory, None);
    let (inbox, mut answers) = bookie_client::inbox();
    let link = pool.register(inbox);
    let read = Read {
        ledger: record.id,
        created: record.created,
        entry,
        fence: None,
    };
    for bookie in &record.ensemble {
        link.send(*bookie, Order::Request(Request::Read(read)));
    }
    let found = async {
        while let Some(event) = answers.recv().await {
            let PoolEvent::Answers { answers, .. } = event else {
                continue;
            };
            for answer in answers {
                if let BookieAnswer::Read {
                    result: ReadResult::Found { entry, .. },
                    ..
                } = answer
                {
                    return Some(entry.next_offset);
                }
            }
        }
        None
    };
    let found = host.clock.timeout(PATIENCE, found).await.ok().flatten();
    found.with_context(|| {
        format!(
            "no bookie of ledger {} gives entry {entry}: name one that can be read",
            record.id
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_named_as_nodes_name_it() {
        let id = LedgerId::new(LogId::new(17), LedgerSeq::new(3));
        assert_eq!(ledger("17/3"), Ok(id));
        assert_eq!(id.to_string(), "17/3");
        for bad in ["", "17", "17/", "/3", "a/b", "17/3/1", "-1/0"] {
            assert!(ledger(bad).is_err(), "{bad}");
        }
    }
}
