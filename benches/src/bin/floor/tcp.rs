//! Sockets over loopback, as the nodes set theirs up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use futures::StreamExt;
use host::net::{Address, Conn, Net, TcpNet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rounds::{Rounds, Times};
use crate::rows::{Row, TCP, TCP_TURN};

/// Bytes of a large write.
const PIECE: usize = 256 << 10;
/// Bytes of a small message.
const SMALL: usize = 64;

/// Measures both.
pub(crate) async fn measure(rounds: Rounds) -> anyhow::Result<Vec<Row>> {
    let rates = one_way(&rounds).await?;
    let mut turns = turns(&rounds).await?;
    Ok(vec![
        Row::of_rates(TCP, rates),
        Row::of_times(TCP_TURN, 50, &mut turns),
    ])
}

/// Both ends of a connection.
async fn connection() -> anyhow::Result<(Box<dyn Conn>, Box<dyn Conn>)> {
    let refused = "no connection over loopback: allow this process to listen at 127.0.0.1";
    let net = TcpNet;
    let at = Address::new("127.0.0.1:0");
    let mut incoming = net.listen(&at).await.context(refused)?;
    let client = net.connect(&incoming.local).await.context(refused)?;
    let server = incoming.conns.next().await.context(refused)?;
    let (server, _) = server.context(refused)?;
    Ok((client, server))
}

async fn one_way(rounds: &Rounds) -> anyhow::Result<Vec<f64>> {
    let (mut client, mut server) = connection().await?;
    let arrived = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&arrived);
    tokio::spawn(async move {
        let mut bytes = vec![0; PIECE];
        // Until the client is done.
        while let Ok(read @ 1..) = server.read(&mut bytes).await {
            count.fetch_add(read as u64, Ordering::Relaxed);
        }
    });
    let piece = vec![7; PIECE];
    let mut rates = Vec::new();
    for _ in rounds.all() {
        let round = rounds.begin();
        let before = arrived.load(Ordering::Relaxed);
        while round.goes_on() {
            client.write_all(&piece).await?;
        }
        // What still lies in the socket counts for the next round, as what lay in it counts for this one.
        rates.push(round.rate(arrived.load(Ordering::Relaxed) - before));
    }
    Ok(rates)
}

async fn turns(rounds: &Rounds) -> anyhow::Result<Vec<Times>> {
    let (mut client, mut server) = connection().await?;
    tokio::spawn(async move {
        let mut bytes = [0; SMALL];
        // Until the client is done.
        while server.read_exact(&mut bytes).await.is_ok() {
            if server.write_all(&bytes).await.is_err() {
                break;
            }
        }
    });
    let mut bytes = [7; SMALL];
    let mut all = Vec::new();
    for _ in rounds.all() {
        let round = rounds.begin();
        let mut times = Times::default();
        while round.goes_on() {
            let began = round.took();
            client.write_all(&bytes).await?;
            client.read_exact(&mut bytes).await?;
            times.push(round.took() - began);
        }
        all.push(times);
    }
    Ok(all)
}
