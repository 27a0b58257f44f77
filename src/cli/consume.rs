//! `ledgerline consume`.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use ledgerline_client::{
    ByteSize, Client, Consumer, Error, Offset, Reason, Received, StartPosition, SubscriptionMode,
    api,
};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::client::{Server, block_on, explain};
use super::opening::{self, OPEN_WITHIN};
use super::progress::Progress;
use super::values;
use crate::terminal;

/// Messages printed before they are acked together.
const TOGETHER: usize = 1_000;
/// What opening may take at least, however small --idle is.
const IDLE_OPEN: Duration = Duration::from_secs(5);

/// Print the messages of a topic and ack each once it is printed.
///
/// What was acked does not come again on the same subscription; another one sees everything.
/// The command runs until Ctrl-C, --count or --idle ends it.
///
/// Examples:
///   ledgerline consume greetings --count 1
///   ledgerline consume orders --subscription audit --from earliest --format json
///   ledgerline consume orders --subscription copy --format raw --idle 2s > orders.txt
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Consume {
    /// The topic: a single name, or `tenants/…/namespaces/…/topics/…`.
    topic: String,

    /// The subscription to read from: who uses the same one shares its place. It is made if there is none.
    #[arg(long, short, env = "LEDGERLINE_SUBSCRIPTION", default_value = "cli")]
    subscription: String,

    /// Where the subscription starts if it is made now: earliest, latest, or an offset. One that exists goes on where it
    /// was [default: earliest].
    #[arg(long, env = "LEDGERLINE_FROM", value_parser = values::start, value_name = "POSITION")]
    from: Option<StartPosition>,

    /// One consumer in order (exclusive), or many that share the messages (shared) [default: what the subscription has;
    /// exclusive if it is made now].
    #[arg(long, env = "LEDGERLINE_MODE", value_parser = values::mode)]
    mode: Option<SubscriptionMode>,

    /// How a message is printed.
    #[arg(long, env = "LEDGERLINE_FORMAT", value_enum, default_value_t = Format::Text)]
    format: Format,

    /// End after this many messages.
    #[arg(long, env = "LEDGERLINE_COUNT", value_name = "N")]
    count: Option<u64>,

    /// End when no message came for so long. Opening the subscription may take as long too, and five seconds at least.
    #[arg(long, env = "LEDGERLINE_IDLE", value_parser = values::duration, value_name = "TIME")]
    idle: Option<Duration>,

    /// Do not ack: the messages come again. The server holds back what is beyond its limit of unacked messages.
    #[arg(long, env = "LEDGERLINE_NO_ACK")]
    no_ack: bool,

    /// A name for statistics.
    #[arg(long, env = "LEDGERLINE_CONSUMER_NAME", value_name = "NAME")]
    consumer_name: Option<String>,

    #[command(flatten)]
    server: Server,
}

/// How a message is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The payload as a line of text, with what is not printable escaped.
    Text,
    /// One JSON object a line: offset, key, attributes, times, payload (base64 where it is no text).
    Json,
    /// The payload's bytes as they are, and a newline.
    Raw,
}

impl Consume {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        block_on(self.consume())
    }

    async fn consume(self) -> anyhow::Result<()> {
        if self.count == Some(0) {
            return Ok(());
        }
        let stop = terminal::stop_signal();
        let client = self.server.connect().await?;
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            opened = opening::open(&client, &self.topic, self.open_within(), self.open(&client)) => opened?,
        };
        let clock = host::Clock::real();
        let mut run = Run {
            progress: Progress::new(&clock, "consuming", self.count),
            consumer: opened,
            out: io::BufWriter::with_capacity(1 << 20, io::stdout()),
            printed: Vec::new(),
        };
        let ended = run.print(&self, &stop).await;
        let closed = run.consumer.close().await;
        let acked = match &ended {
            _ if self.no_ack => ", not acked",
            Ok(End::Done) => ", all acked",
            // What was read and not printed comes again.
            Ok(End::ReaderGone) | Err(_) => ", acked as far as they were printed",
        };
        run.progress.finish("consumed", acked);
        match ended? {
            End::ReaderGone => Ok(()),
            End::Done => closed.map_err(explain),
        }
    }

    /// How long opening may take: --idle too, but an owner that died takes some seconds to be replaced.
    fn open_within(&self) -> Duration {
        self.idle
            .map_or(OPEN_WITHIN, |idle| idle.clamp(IDLE_OPEN, OPEN_WITHIN))
    }

    /// A subscription that is to start beyond the end starts at the end: that is said.
    async fn say_if_beyond(&self, client: &Client, from: Offset) {
        // Without an answer there is nothing to say: the consumer is open.
        let Ok(stats) = client.admin().topic_stats(&self.topic).await else {
            return;
        };
        if let Some(note) = beyond(from, &stats) {
            terminal::say(note);
        }
    }

    async fn open(&self, client: &Client) -> Result<Consumer, Error> {
        let name = format!("{}/subscriptions/{}", self.topic, self.subscription);
        let known = match client.admin().get_subscription(&name).await {
            Ok(_) => true,
            Err(error) if is_missing(&error) => false,
            Err(error) => return Err(error),
        };
        if known && self.from.is_some() {
            terminal::say(format_args!(
                "note: subscription {} exists and goes on where it was; --from is for new ones, choose another --subscription to read from there",
                self.subscription
            ));
        }
        // What waits in memory is leased to this command: no more than it will print.
        let credit = self
            .count
            .map_or(1_000, |count| u32::try_from(count.min(1_000)).unwrap_or(1));
        let mut builder = client
            .consumer(&name)
            .create_if_missing()
            .start(self.from.unwrap_or(StartPosition::Earliest))
            .credit(credit, ByteSize::mib(8));
        match self.mode {
            Some(mode) => builder = builder.mode(mode),
            None if !known => builder = builder.mode(SubscriptionMode::Exclusive),
            None => {}
        }
        if let Some(name) = &self.consumer_name {
            builder = builder.name(name);
        }
        let consumer = builder.open().await?;
        if let (false, Some(StartPosition::Offset(from))) = (known, self.from) {
            self.say_if_beyond(client, from).await;
        }
        Ok(consumer)
    }
}

/// That a place to start from is behind the end of a topic; none when it is not.
fn beyond(from: Offset, stats: &api::TopicStats) -> Option<String> {
    let end = stats.shards.first()?.next_offset;
    (from.get() > end).then(|| {
        format!("note: --from {from} is beyond the end of the topic, {end}: only new messages come")
    })
}

fn is_missing(error: &Error) -> bool {
    matches!(
        error.reason(),
        Reason::SubscriptionNotFound | Reason::TopicNotFound
    )
}

/// How printing ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Done,
    /// Nobody reads what is printed any more, such as `head`.
    ReaderGone,
}

struct Run<W: Write> {
    consumer: Consumer,
    progress: Progress,
    out: W,
    /// Printed into the buffer, not acked yet.
    printed: Vec<Received>,
}

impl<W: Write> Run<W> {
    async fn print(&mut self, asked: &Consume, stop: &CancellationToken) -> anyhow::Result<End> {
        let clock = host::Clock::real();
        while asked
            .count
            .is_none_or(|count| self.progress.messages < count)
        {
            let idle_at = asked.idle.map(|idle| clock.now().after(idle));
            let message = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                message = self.consumer.recv() => message.map_err(explain)?,
                () = clock.deadline(idle_at) => break,
            };
            if self.take(asked, message)? == End::ReaderGone {
                return Ok(End::ReaderGone);
            }
            // What is here already is printed with it, and acked with it.
            while self.printed.len() < TOGETHER
                && asked
                    .count
                    .is_none_or(|count| self.progress.messages < count)
            {
                let Some(message) = self.consumer.try_recv().map_err(explain)? else {
                    break;
                };
                if self.take(asked, message)? == End::ReaderGone {
                    return Ok(End::ReaderGone);
                }
            }
            if written(self.out.flush())? == End::ReaderGone {
                return Ok(End::ReaderGone);
            }
            for message in self.printed.drain(..) {
                if !asked.no_ack {
                    self.consumer.ack(&message);
                }
            }
        }
        Ok(End::Done)
    }

    fn take(&mut self, asked: &Consume, message: Received) -> anyhow::Result<End> {
        let end = written(write(&mut self.out, asked.format, &message))?;
        self.progress.add(message.payload().len());
        self.printed.push(message);
        Ok(end)
    }
}

fn written(outcome: io::Result<()>) -> anyhow::Result<End> {
    match outcome {
        Ok(()) => Ok(End::Done),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(End::ReaderGone),
        Err(error) => Err(error).context("the output cannot be written; nothing of it was acked"),
    }
}

fn write(out: &mut impl Write, format: Format, message: &Received) -> io::Result<()> {
    match format {
        Format::Raw => {
            out.write_all(message.payload())?;
            out.write_all(b"\n")
        }
        Format::Text => writeln!(out, "{}", printable(message.payload())),
        Format::Json => {
            serde_json::to_writer(&mut *out, &as_json(message))?;
            out.write_all(b"\n")
        }
    }
}

/// The payload as one line of text that does nothing to a terminal.
fn printable(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return text.into_owned();
    }
    let escape = |c: char| -> String {
        if c.is_control() && c != '\t' {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}

fn as_json(message: &Received) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    put("offset", json!(message.offset()));
    put("attempt", json!(message.attempt()));
    let content = message.message();
    if let Some(time) = message.publish_time() {
        put("publish_time", json!(values::rfc3339(time)));
    }
    if let Some(time) = content.event_time {
        put("event_time", json!(values::rfc3339(time)));
    }
    if !content.ordering_key.is_empty() {
        put("key", json!(content.ordering_key));
    }
    if !content.attributes.is_empty() {
        put("attributes", json!(content.attributes));
    }
    if !content.content_type.is_empty() {
        put("content_type", json!(content.content_type));
    }
    if let Some(stamp) = message.producer() {
        put(
            "producer",
            json!({"name": &*stamp.name, "epoch": stamp.epoch, "sequence": stamp.sequence}),
        );
    }
    match std::str::from_utf8(&content.payload) {
        Ok(text) => put("payload", json!(text)),
        Err(_) => put("payload_base64", json!(values::base64(&content.payload))),
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_does_nothing_to_a_terminal() {
        assert_eq!(printable("plain é\tx".as_bytes()), "plain é\tx");
        assert_eq!(printable(b"a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb\\r\\n");
        assert_eq!(printable(&[b'a', 0xff]), "a\u{fffd}");
    }

    #[test]
    fn a_start_beyond_the_end_is_told() {
        let shard = api::ShardStats {
            next_offset: 7,
            ..Default::default()
        };
        let stats = api::TopicStats {
            shards: vec![shard],
            ..Default::default()
        };
        assert_eq!(beyond(Offset::new(7), &stats), None);
        let note = beyond(Offset::new(8), &stats).unwrap();
        assert!(
            note.contains("--from 8") && note.contains("end of the topic, 7"),
            "{note}"
        );
    }

    #[test]
    fn a_reader_that_left_is_no_error() {
        let gone = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(written(Err(gone)).unwrap(), End::ReaderGone);
        assert!(written(Err(io::Error::from(io::ErrorKind::StorageFull))).is_err());
    }
}
