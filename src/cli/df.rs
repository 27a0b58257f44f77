//! `ledgerline bookie df`: what every byte of a bookie's directories is.

use bookie_client::SpaceUse;
use clap::Args;
use host::Host;
use host::net::Address;
use serde_json::{Value, json};
use types::ByteSize;

use super::client::{Output, block_on};
use super::servers::address;

/// Ask a running bookie what takes its space: what is live, what is to go and why, and which logs keep the most.
#[derive(Debug, Args)]
pub(crate) struct Df {
    /// Where the bookie listens for serving nodes.
    #[arg(long, env = "LEDGERLINE_ADDR", default_value = "127.0.0.1:7470", value_name = "HOST:PORT", value_parser = address)]
    addr: String,

    /// How many logs to name, those with the most live bytes first.
    #[arg(long, env = "LEDGERLINE_LOGS", default_value_t = 10)]
    logs: u32,

    #[command(flatten)]
    output: Output,
}

impl Df {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let address = Address::new(&self.addr);
        let host = Host::real("ledgerline");
        let asked = bookie_client::space(&host, &address, self.logs);
        let space = block_on(async { asked.await.map_err(anyhow::Error::from) })?;
        self.output.print(&show(&space));
        Ok(())
    }
}

fn show(it: &SpaceUse) -> Value {
    let all = [
        ("live", it.live, "entries that readers may ask for"),
        (
            "trimmed",
            it.trimmed,
            "going: ledgers before the trim point",
        ),
        ("deleted", it.deleted, "going: deleted topics"),
        (
            "moved",
            it.moved,
            "going: ledgers that other bookies hold now",
        ),
        ("passing", it.passing, "data files being written or removed"),
        ("journal", it.journal, "what a restart may need"),
        ("ahead", it.ahead, "journal files made ahead"),
        ("other", it.other, "manifest, identities, locks"),
    ];
    let used = all.iter().map(|(_, bytes, _)| bytes).sum();
    let rows = all.map(|(of, bytes, what)| json!({"name": of, "bytes": bytes, "size": size(bytes), "share": percent(bytes, used), "what": what}));
    let log = |(log, bytes): &(types::LogId, u64)| json!({"name": log.get(), "bytes": bytes, "size": size(*bytes), "share": percent(*bytes, it.live)});
    json!({
        "name": it.name,
        "bookie": it.bookie.get(),
        "cluster": it.cluster.to_string(),
        "standing": if it.writable { "read-write" } else { "read-only" },
        "used": used,
        "free": it.free,
        "free_low": it.free_low,
        "space": rows,
        "logs": it.logs.iter().map(log).collect::<Vec<_>>(),
    })
}

fn size(bytes: u64) -> String {
    ByteSize::new(bytes).to_string()
}

fn percent(part: u64, whole: u64) -> String {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    format!("{percent}%")
}

#[cfg(test)]
mod tests {
    use types::{BookieId, ClusterId, LogId};

    use super::*;

    #[test]
    fn every_byte_is_told_once_and_shares_are_of_the_whole() {
        let value = show(&SpaceUse {
            name: "b-1".to_owned(),
            bookie: BookieId::new(4),
            cluster: ClusterId::new(1),
            writable: false,
            live: 50,
            trimmed: 10,
            deleted: 20,
            moved: 5,
            passing: 5,
            journal: 4,
            ahead: 3,
            other: 3,
            free: 7,
            free_low: 9,
            logs: vec![(LogId::new(17), 25)],
        });
        assert_eq!(value["used"], 100);
        assert_eq!(value["standing"], "read-only");
        let rows = value["space"].as_array().unwrap();
        let sum: u64 = rows.iter().map(|row| row["bytes"].as_u64().unwrap()).sum();
        assert_eq!(sum, 100);
        assert_eq!(rows[2]["share"], "20%");
        assert_eq!(value["logs"][0]["share"], "50%");
        assert_eq!(percent(1, 0), "100%", "no division by nothing");
    }
}
