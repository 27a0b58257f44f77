//! Reads histories: a line at a time, borrowing from it, and patient with a file whose last line is cut off.

use std::fmt;
use std::io::{self, BufRead};

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

use super::format::{
    Acked, Delivered, Drained, Event, Fault, Guarantees, Outcome, Phase, Received, Seek, Sent,
    Session, Start, Stored, Subscribed, SubscriptionType, Tail, TopicDeleted, Trim, Unsubscribed,
};
use super::name::Name;

/// Why a line is no event.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It is no JSON object of known shape.
    #[error("not an event: {0}")]
    Json(#[from] serde_json::Error),
    /// A key that this kind of event needs is missing.
    #[error("key missing event={event} key={key}")]
    Missing {
        /// The kind of event.
        event: String,
        /// The key.
        key: &'static str,
    },
    /// No such kind of event.
    #[error("unknown event event={event}")]
    Unknown {
        /// What it calls itself.
        event: String,
    },
}

/// What [`read_lines`] finds.
#[derive(Debug)]
pub enum Line<'a> {
    /// An event.
    Event(Event<'a>),
    /// A line that is none, in the middle of the file or with its line end: the file is damaged.
    Bad(LineError),
    /// The last line is cut off: the run died while it wrote. Nothing follows.
    Cut,
}

/// Reads all lines of a history and hands each to `visit`, with its number (from 1). Empty lines are skipped.
///
/// # Errors
///
/// Those of reading.
pub fn read_lines(mut from: impl BufRead, mut visit: impl FnMut(u64, Line<'_>)) -> io::Result<()> {
    let mut buffer = Vec::new();
    let mut number = 0;
    loop {
        buffer.clear();
        if from.read_until(b'\n', &mut buffer)? == 0 {
            return Ok(());
        }
        number += 1;
        let is_whole = buffer.last() == Some(&b'\n');
        let text = buffer.trim_ascii();
        if text.is_empty() {
            continue;
        }
        match parse(text) {
            Ok(event) => visit(number, Line::Event(event)),
            Err(error) if is_whole => visit(number, Line::Bad(error)),
            Err(_) => visit(number, Line::Cut),
        }
    }
}

/// Reads one line.
///
/// # Errors
///
/// [`LineError`] when it is no event.
pub fn parse(line: &[u8]) -> Result<Event<'_>, LineError> {
    let mut flat: Flat<'_> = serde_json::from_slice(line)?;
    let event = std::mem::replace(&mut flat.e, Name::from(""));
    let missing = |key| LineError::Missing {
        event: event.as_str().to_owned(),
        key,
    };
    Ok(match event.as_str() {
        "send" => Event::Send(flat.sent().map_err(missing)?),
        "ok" => Event::Ok(flat.stored().map_err(missing)?),
        "fail" => Event::Fail(flat.outcome().map_err(missing)?),
        "info" => Event::Info(flat.outcome().map_err(missing)?),
        "recv" => Event::Recv(flat.received().map_err(missing)?),
        "ack" => Event::Ack(flat.acked().map_err(missing)?),
        "ackok" => Event::AckOk(flat.acked().map_err(missing)?),
        "nack" => Event::Nack(flat.acked().map_err(missing)?),
        "open" => Event::Open(flat.session().map_err(missing)?),
        "close" => Event::Close(flat.session().map_err(missing)?),
        "sub" => Event::Sub(flat.subscribed().map_err(missing)?),
        "unsub" => Event::Unsub(flat.unsubscribed().map_err(missing)?),
        "deleted" => Event::Deleted(flat.deleted().map_err(missing)?),
        "seek" => Event::Seek(flat.seek().map_err(missing)?),
        "trim" => Event::Trim(flat.trim().map_err(missing)?),
        "tail" => Event::Tail(flat.tail().map_err(missing)?),
        "drained" => Event::Drained(flat.drained().map_err(missing)?),
        "nem" => Event::Nem(flat.fault().map_err(missing)?),
        "meta" => Event::Meta {
            v: flat.v.ok_or_else(|| missing("v"))?,
            g: flat.g.ok_or_else(|| missing("g"))?,
        },
        "end" => Event::End,
        _ => {
            return Err(LineError::Unknown {
                event: event.as_str().chars().take(40).collect(),
            });
        }
    })
}

/// All keys of all events at once. An internally tagged enum would buffer each line first, and millions of lines are
/// read; a flat one is read in place.
#[derive(serde::Deserialize)]
struct Flat<'a> {
    #[serde(borrow)]
    e: Name<'a>,
    t: Option<u64>,
    t0: Option<u64>,
    #[serde(borrow)]
    w: Option<Name<'a>>,
    #[serde(borrow)]
    p: Option<Name<'a>>,
    n: Option<u64>,
    #[serde(borrow)]
    k: Option<Name<'a>>,
    h: Option<u64>,
    due: Option<u64>,
    #[serde(borrow)]
    x: Option<Names<'a>>,
    o: Option<u64>,
    ep: Option<u64>,
    #[serde(borrow)]
    sub: Option<Name<'a>>,
    ty: Option<SubscriptionType>,
    from: Option<Start>,
    #[serde(borrow)]
    c: Option<Name<'a>>,
    r: Option<u64>,
    #[serde(borrow)]
    pp: Option<Name<'a>>,
    #[serde(borrow)]
    ms: Option<Vec<Item<'a>>>,
    cu: Option<u64>,
    #[serde(borrow)]
    f: Option<Name<'a>>,
    ph: Option<Phase>,
    v: Option<u32>,
    g: Option<Guarantees>,
}

impl<'a> Flat<'a> {
    fn sent(self) -> Result<Sent<'a>, &'static str> {
        Ok(Sent {
            t: self.t.ok_or("t")?,
            w: self.w.ok_or("w")?,
            p: self.p.ok_or("p")?,
            n: self.n.ok_or("n")?,
            k: self.k,
            h: self.h,
            due: self.due,
            x: self.x.map_or_else(Vec::new, |names| names.0),
        })
    }

    fn stored(self) -> Result<Stored<'a>, &'static str> {
        Ok(Stored {
            t: self.t.ok_or("t")?,
            w: self.w.ok_or("w")?,
            p: self.p.ok_or("p")?,
            n: self.n.ok_or("n")?,
            o: self.o,
            ep: self.ep,
        })
    }

    fn outcome(self) -> Result<Outcome<'a>, &'static str> {
        Ok(Outcome {
            t: self.t.ok_or("t")?,
            w: self.w.ok_or("w")?,
            p: self.p.ok_or("p")?,
            n: self.n.ok_or("n")?,
        })
    }

    fn subscribed(self) -> Result<Subscribed<'a>, &'static str> {
        Ok(Subscribed {
            t0: self.t0.ok_or("t0")?,
            t: self.t.ok_or("t")?,
            sub: self.sub.ok_or("sub")?,
            p: self.p.ok_or("p")?,
            ty: self.ty.ok_or("ty")?,
            from: self.from.ok_or("from")?,
        })
    }

    fn session(self) -> Result<Session<'a>, &'static str> {
        Ok(Session {
            t: self.t.ok_or("t")?,
            sub: self.sub.ok_or("sub")?,
            c: self.c.ok_or("c")?,
        })
    }

    fn received(self) -> Result<Received<'a>, &'static str> {
        let ms = match self.ms {
            Some(items) => items
                .into_iter()
                .map(Item::delivered)
                .collect::<Result<_, _>>()?,
            None => vec![Delivered {
                w: self.w.ok_or("ms")?,
                n: self.n.ok_or("n")?,
                o: self.o.ok_or("o")?,
                redelivered: self.r.unwrap_or(0) != 0,
                hash: self.h,
                astray: self.pp,
            }],
        };
        Ok(Received {
            t: self.t.ok_or("t")?,
            sub: self.sub.ok_or("sub")?,
            c: self.c.ok_or("c")?,
            p: self.p.ok_or("p")?,
            ms,
        })
    }

    fn acked(self) -> Result<Acked<'a>, &'static str> {
        let ms = match (self.ms, self.w, self.cu) {
            (Some(items), _, _) => items.into_iter().map(|item| (item.w, item.n)).collect(),
            (None, Some(w), _) => vec![(w, self.n.ok_or("n")?)],
            (None, None, Some(_)) => Vec::new(),
            (None, None, None) => return Err("ms"),
        };
        Ok(Acked {
            t: self.t.ok_or("t")?,
            sub: self.sub.ok_or("sub")?,
            c: self.c.ok_or("c")?,
            p: self.p.ok_or("p")?,
            ms,
            cu: self.cu,
        })
    }

    fn seek(self) -> Result<Seek<'a>, &'static str> {
        Ok(Seek {
            t0: self.t0.ok_or("t0")?,
            t: self.t.ok_or("t")?,
            sub: self.sub.ok_or("sub")?,
            p: self.p.ok_or("p")?,
            o: self.o.ok_or("o")?,
        })
    }

    fn trim(self) -> Result<Trim<'a>, &'static str> {
        Ok(Trim {
            p: self.p.ok_or("p")?,
            o: self.o.ok_or("o")?,
        })
    }

    fn tail(self) -> Result<Tail<'a>, &'static str> {
        Ok(Tail {
            t0: self.t0.ok_or("t0")?,
            t: self.t.ok_or("t")?,
            p: self.p.ok_or("p")?,
            o: self.o,
        })
    }

    fn unsubscribed(self) -> Result<Unsubscribed<'a>, &'static str> {
        Ok(Unsubscribed {
            sub: self.sub.ok_or("sub")?,
            p: self.p.ok_or("p")?,
        })
    }

    fn deleted(self) -> Result<TopicDeleted<'a>, &'static str> {
        Ok(TopicDeleted {
            t: self.t.ok_or("t")?,
            p: self.p.ok_or("p")?,
        })
    }

    fn drained(self) -> Result<Drained<'a>, &'static str> {
        Ok(Drained {
            sub: self.sub.ok_or("sub")?,
            p: self.p.ok_or("p")?,
        })
    }

    fn fault(self) -> Result<Fault<'a>, &'static str> {
        let targets = self.x.ok_or("x")?.0;
        let target = match <[Name<'a>; 1]>::try_from(targets) {
            Ok([one]) => one,
            Err(many) => {
                let texts: Vec<&str> = many.iter().map(Name::as_str).collect();
                Name::from(texts.join(" "))
            }
        };
        Ok(Fault {
            f: self.f.ok_or("f")?,
            x: target,
            ph: self.ph.ok_or("ph")?,
            t: self.t,
        })
    }
}

/// One element of `ms`: `[w, n]` of an ack, or `[w, n, o, redelivered, hash, astray]` of a delivery.
struct Item<'a> {
    w: Name<'a>,
    n: u64,
    o: Option<u64>,
    redelivered: u64,
    hash: Option<u64>,
    astray: Option<Name<'a>>,
}

impl<'a> Item<'a> {
    fn delivered(self) -> Result<Delivered<'a>, &'static str> {
        Ok(Delivered {
            w: self.w,
            n: self.n,
            o: self.o.ok_or("ms[2]")?,
            redelivered: self.redelivered != 0,
            hash: self.hash,
            astray: self.astray,
        })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[writer, number] or [writer, number, offset, redelivered, hash]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Item<'de>, A::Error> {
        let short = |len| A::Error::invalid_length(len, &self);
        let item = Item {
            w: seq.next_element()?.ok_or_else(|| short(0))?,
            n: seq.next_element()?.ok_or_else(|| short(1))?,
            o: seq.next_element()?,
            redelivered: seq.next_element()?.unwrap_or(0),
            hash: seq.next_element::<Option<u64>>()?.flatten(),
            astray: seq.next_element()?,
        };
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(item)
    }
}

/// One name or several: `x` of a send is a list, `x` of a fault mostly one word.
struct Names<'a>(Vec<Name<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Names<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or a list of names")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Names(vec![Name::from(text)]))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Names(vec![Name::from(text.to_owned())]))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Names(vec![Name::from(number.to_string())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = seq.next_element()? {
            names.push(name);
        }
        Ok(Names(names))
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StartVisitor)
    }
}

struct StartVisitor;

impl Visitor<'_> for StartVisitor {
    type Value = Start;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"earliest\", \"latest\" or an offset")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Start, E> {
        match text {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            _ => text
                .parse()
                .map(Start::Offset)
                .map_err(|_| E::custom("expected \"earliest\", \"latest\" or an offset")),
        }
    }

    fn visit_u64<E: Error>(self, offset: u64) -> Result<Start, E> {
        Ok(Start::Offset(offset))
    }
}
