//! `ledgerline produce`.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::FutureExt;
use ledgerline_client::{ByteSize, Codec, Message, Producer, Receipt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::client::{Server, block_on, explain};
use super::opening;
use super::progress::Progress;
use crate::terminal;

/// Longest line that is taken: what a server takes of one message, and a little less.
pub(super) const LINE_MAX: usize = (5 << 20) - 64;
/// Lines handed over at once, in bytes and in number.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNK_LINES: usize = 1024;

/// Publish lines of stdin or of a file, or a generated load.
///
/// Each line is a message, as it is, whatever its bytes, without the newline at its end.
/// The command ends once every message is fsynced on its quorum of disks. Trouble on the way
/// (a node that died) is waited out; nothing is published twice. Ctrl-C stops reading: what was sent
/// is waited for, how many are acked is told, and the exit code is 130.
///
/// Examples:
///   echo hello | ledgerline produce greetings
///   ledgerline produce orders --file orders.txt --key eu
///   ledgerline produce logs --file access.log --compression zstd
///   ledgerline produce load --count 100000 --size 1KiB --rate 5000
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Produce {
    /// The topic: a single name, or `tenants/…/namespaces/…/topics/…`.
    topic: String,

    /// Read this file instead of stdin.
    #[arg(
        long,
        short,
        env = "LEDGERLINE_FILE",
        value_name = "FILE",
        conflicts_with = "count"
    )]
    file: Option<PathBuf>,

    /// The ordering key of every message: those with one key keep their order, whatever becomes of the topic.
    #[arg(
        long,
        short,
        env = "LEDGERLINE_KEY",
        default_value = "",
        hide_default_value = true
    )]
    key: String,

    /// A producer's name that stays the same over runs: its numbering goes on, and an older producer of this name is
    /// shut out. Default: a name of its own for each run.
    #[arg(long, env = "LEDGERLINE_PRODUCER_NAME", value_name = "NAME")]
    producer_name: Option<String>,

    /// Publish this many generated messages instead of reading any.
    #[arg(long, env = "LEDGERLINE_COUNT", value_name = "N")]
    count: Option<u64>,

    /// Bytes of each generated message, with --count [default: 1KiB].
    #[arg(long, env = "LEDGERLINE_SIZE", value_name = "SIZE", requires = "count")]
    size: Option<ByteSize>,

    /// Messages a second, at most. Default: as many as go.
    #[arg(long, env = "LEDGERLINE_RATE", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,

    #[command(flatten)]
    batching: Batching,

    #[command(flatten)]
    compression: Compressing,

    /// How long trouble is waited out before the command gives up, also when it begins.
    #[arg(long, env = "LEDGERLINE_TIMEOUT", default_value = "2m", value_parser = super::values::duration, value_name = "TIME")]
    timeout: Duration,

    #[command(flatten)]
    server: Server,
}

/// Whether a producer compresses.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Compressing {
    /// Compress each batch: it is stored and delivered so, and consumers open it. One that does not shrink goes as it is.
    #[arg(
        long,
        env = "LEDGERLINE_COMPRESSION",
        default_value = "none",
        value_name = "CODEC"
    )]
    compression: Compression,
}

impl Compressing {
    /// The codec; none for batches that go as they are.
    pub(crate) const fn codec(self) -> Option<Codec> {
        match self.compression {
            Compression::None => None,
            Compression::Zstd => Some(Codec::Zstd),
            Compression::Lz4 => Some(Codec::Lz4),
            Compression::Snappy => Some(Codec::Snappy),
        }
    }
}

/// How batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compression {
    /// As they are.
    None,
    /// Smallest.
    Zstd,
    /// Least work.
    Lz4,
    /// Little work, for consumers that know it only.
    Snappy,
}

/// How a producer batches.
#[derive(Debug, Clone, Args)]
pub(crate) struct Batching {
    /// Most batches underway at a time.
    #[arg(
        long,
        env = "LEDGERLINE_IN_FLIGHT",
        default_value_t = Self::default().in_flight,
        value_name = "N"
    )]
    pub(crate) in_flight: usize,

    /// A batch is closed at this size. One that is not full goes when nothing else is underway.
    #[arg(
        long,
        env = "LEDGERLINE_BATCH",
        default_value_t = Self::default().batch,
        value_name = "SIZE"
    )]
    pub(crate) batch: ByteSize,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            in_flight: 16,
            batch: ByteSize::kib(256),
        }
    }
}

impl Produce {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        block_on(self.publish())
    }

    async fn publish(self) -> anyhow::Result<()> {
        let stop = terminal::stop_signal();
        let client = self.server.connect().await?;
        let mut builder = client
            .producer(&self.topic)
            .in_flight(self.batching.in_flight)
            .batch_bytes(self.batching.batch)
            .compression(self.compression.codec())
            .timeout(self.timeout);
        if let Some(name) = &self.producer_name {
            builder = builder.name(name);
        }
        let producer = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(interrupted(0)),
            created = opening::open(&client, &self.topic, self.timeout, builder.create()) => created?,
        };
        let clock = host::Clock::real();
        let source = self.source()?;
        let mut run = Run {
            progress: Progress::new(&clock, "publishing", self.count),
            receipts: VecDeque::new(),
            producer,
            key: self.key.clone(),
        };
        let fed = run.feed(source, self.rate, &clock, &stop).await;
        // What was sent is waited for whatever came after it.
        let settled = run.settle_all().await;
        let topic = run.producer.topic().short().to_owned();
        run.progress
            .finish("published", &format!(", all fsynced, to {topic}"));
        settled?;
        let fed = fed?;
        let acked = run.progress.messages;
        run.producer.close().await.map_err(explain)?;
        match fed {
            Fed::All => Ok(()),
            Fed::Stopped => Err(interrupted(acked)),
        }
    }

    fn source(&self) -> anyhow::Result<Source> {
        if let Some(count) = self.count {
            let size = self.size.unwrap_or(ByteSize::kib(1));
            if size.get() > LINE_MAX as u64 {
                bail!("a message of {size} is too large; set --size to at most {LINE_MAX}B");
            }
            let mut payload = vec![0; size.as_usize()];
            let rng = host::Rng::from_os();
            rng.fill(&mut payload);
            return Ok(Source::Generated {
                count,
                payload,
                rng,
            });
        }
        let reader: Box<dyn Read + Send> = match &self.file {
            Some(path) => Box::new(open(path)?),
            None => {
                if std::io::stdin().is_terminal() {
                    terminal::say("each line becomes a message; Ctrl-D ends");
                }
                Box::new(std::io::stdin())
            }
        };
        Ok(Source::Lines(read_lines(reader)))
    }
}

/// The user stopped the command before the end of its input.
fn interrupted(acked: u64) -> anyhow::Error {
    let text = format!("messages acked: {acked}; what came after them in the input was not sent");
    terminal::Interrupted(text).into()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the user names a file for the command to read"
)]
fn open(path: &Path) -> anyhow::Result<std::fs::File> {
    std::fs::File::open(path).with_context(|| format!("--file {} cannot be opened", path.display()))
}

/// Where messages come from.
enum Source {
    Lines(mpsc::Receiver<anyhow::Result<Vec<Bytes>>>),
    Generated {
        count: u64,
        payload: Vec<u8>,
        rng: host::Rng,
    },
}

impl Source {
    /// The next payloads; none at the end.
    async fn next(&mut self) -> anyhow::Result<Option<Vec<Bytes>>> {
        match self {
            Self::Lines(lines) => lines.recv().await.transpose(),
            Self::Generated { count: 0, .. } => Ok(None),
            Self::Generated {
                count,
                payload,
                rng,
            } => {
                let some = (*count).min(64);
                *count -= some;
                let one = |_| {
                    // Its beginning differs from message to message; all of it is random.
                    let fresh = payload.len().min(16);
                    rng.fill(&mut payload[..fresh]);
                    Bytes::copy_from_slice(payload)
                };
                Ok(Some((0..some).map(one).collect()))
            }
        }
    }
}

/// Reads lines on a thread of its own, since a read of a terminal or a pipe cannot be given up.
fn read_lines(reader: Box<dyn Read + Send>) -> mpsc::Receiver<anyhow::Result<Vec<Bytes>>> {
    let (chunks, lines) = mpsc::channel(4);
    #[expect(clippy::disallowed_methods, reason = "stdin is no disk of a node")]
    std::thread::spawn(move || {
        let mut reader = BufReader::with_capacity(1 << 20, reader);
        let mut number = 0;
        loop {
            let chunk = read_chunk(&mut reader, &mut number);
            let is_end = matches!(&chunk, Ok(chunk) if chunk.is_empty());
            let is_last = is_end || chunk.is_err();
            if is_end || chunks.blocking_send(chunk).is_err() || is_last {
                return;
            }
        }
    });
    lines
}

/// Reads some lines: one at least, and as many more as have arrived already. None at the end.
fn read_chunk(reader: &mut BufReader<impl Read>, number: &mut u64) -> anyhow::Result<Vec<Bytes>> {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    while lines.is_empty()
        || (reader.buffer().contains(&b'\n') && bytes < CHUNK_BYTES && lines.len() < CHUNK_LINES)
    {
        let mut line = Vec::new();
        let most = LINE_MAX as u64 + 1;
        let read = reader.by_ref().take(most).read_until(b'\n', &mut line);
        if read.context("the input cannot be read")? == 0 {
            break;
        }
        *number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() > LINE_MAX {
            bail!("line {number} is longer than {LINE_MAX} bytes, the most one message may have");
        }
        bytes += line.len();
        lines.push(Bytes::from(line));
    }
    Ok(lines)
}

/// How feeding a producer ended.
enum Fed {
    /// At the end of the input.
    All,
    /// By the user, before it.
    Stopped,
}

/// A run: what was sent and what is not answered yet.
struct Run {
    producer: Producer,
    progress: Progress,
    receipts: VecDeque<(Receipt, usize)>,
    key: String,
}

impl Run {
    /// Sends what the source gives, until its end or the user's word.
    async fn feed(
        &mut self,
        mut source: Source,
        rate: Option<u32>,
        clock: &host::Clock,
        stop: &CancellationToken,
    ) -> anyhow::Result<Fed> {
        let begun = clock.now();
        let mut sent: u64 = 0;
        loop {
            let payloads = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Fed::Stopped),
                payloads = source.next() => payloads?,
                // While nothing comes, receipts do.
                failed = self.settle_waiting() => return Err(failed),
            };
            let Some(payloads) = payloads else {
                return Ok(Fed::All);
            };
            for payload in payloads {
                if let Some(rate) = rate {
                    let due = Duration::from_secs_f64(to_f64(sent) / f64::from(rate));
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return Ok(Fed::Stopped),
                        () = clock.sleep_until(begun.after(due)) => {}
                    }
                }
                let bytes = payload.len();
                let message = Message::new(payload).with_key(self.key.clone());
                let receipt = tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(Fed::Stopped),
                    receipt = self.producer.send(message) => receipt.map_err(explain)?,
                };
                self.receipts.push_back((receipt, bytes));
                sent += 1;
                self.settle_ready()?;
            }
        }
    }

    /// Takes the receipts that are here.
    fn settle_ready(&mut self) -> anyhow::Result<()> {
        while let Some((receipt, bytes)) = self.receipts.front_mut() {
            let bytes = *bytes;
            let Some(outcome) = receipt.now_or_never() else {
                return Ok(());
            };
            self.receipts.pop_front();
            outcome.map_err(explain)?;
            self.progress.add(bytes);
        }
        Ok(())
    }

    /// Takes receipts as they come; returns only when one failed.
    async fn settle_waiting(&mut self) -> anyhow::Error {
        loop {
            let Some((receipt, bytes)) = self.receipts.front_mut() else {
                return std::future::pending().await;
            };
            let bytes = *bytes;
            let outcome = receipt.await;
            self.receipts.pop_front();
            match outcome {
                Ok(_) => self.progress.add(bytes),
                Err(error) => return explain(error),
            }
        }
    }

    /// Takes all receipts there will be. The first failure is told, with how many there were.
    async fn settle_all(&mut self) -> anyhow::Result<()> {
        let mut first = None;
        let mut failed = 0;
        while let Some((receipt, bytes)) = self.receipts.pop_front() {
            match receipt.await {
                Ok(_) => self.progress.add(bytes),
                Err(error) => {
                    failed += 1;
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            None => Ok(()),
            Some(error) => {
                Err(explain(error).context(format!("{failed} messages are not known to be stored")))
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "after 2^53 messages a pace may be off by a little"
)]
pub(super) const fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> anyhow::Result<Vec<Bytes>> {
        let mut reader = BufReader::new(input);
        let (mut all, mut number) = (Vec::new(), 0);
        loop {
            let chunk = read_chunk(&mut reader, &mut number)?;
            if chunk.is_empty() {
                return Ok(all);
            }
            all.extend(chunk);
        }
    }

    #[test]
    fn lines_are_taken_as_they_are() {
        assert_eq!(lines(b"").unwrap(), [""; 0]);
        assert_eq!(lines(b"a\n\nb\r\nc").unwrap(), ["a", "", "b\r", "c"]);
        let binary = [0xff, 0, b'\n', 0xfe];
        assert_eq!(
            lines(&binary).unwrap(),
            [Bytes::from(vec![0xff, 0]), Bytes::from(vec![0xfe])]
        );
    }

    #[test]
    fn a_line_may_be_as_long_as_a_message_and_no_longer() {
        let mut long = vec![b'x'; LINE_MAX];
        long.extend(b"\nshort\n");
        let read = lines(&long).unwrap();
        assert_eq!((read[0].len(), &read[1][..]), (LINE_MAX, &b"short"[..]));
        let error = lines(&vec![b'x'; LINE_MAX + 1]).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
}
