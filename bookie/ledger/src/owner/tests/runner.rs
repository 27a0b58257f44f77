//! Reads a transcript, plays its commands, writes what the owner did.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use types::chain::{LinkEnd, LogKind, ShardChange, ShardOutcome};
use types::storage::{AddKind, AddResult, Entry, LacResult, ReadResult, SealedReason};
use types::{
    BookieId, EntryId, Epoch, LedgerId, LedgerSeq, LogId, MonoTime, Offset, Payload, Quorum,
    Reason, SessionId, ShardId,
};

use super::meta::Meta;
use crate::{Answer, Candidate, Config, Effect, Event, Outcome, Owner, Request, Stuck, Token};

/// Plays a transcript and compares, or writes it anew.
pub(super) fn check(file: &str) {
    #[expect(
        clippy::disallowed_methods,
        reason = "transcripts are files of the repository"
    )]
    let text = std::fs::read(file).expect("the transcript is there");
    let text = String::from_utf8(text).expect("transcripts are text");
    let played = play(&text);
    if std::env::var_os("LEDGERLINE_BLESS").is_some() {
        #[expect(
            clippy::disallowed_methods,
            reason = "transcripts are files of the repository"
        )]
        std::fs::write(file, &played).expect("the transcript is writable");
    } else {
        assert!(played == text, "{file} plays otherwise now:\n{played}");
    }
}

fn play(text: &str) -> String {
    let mut out = String::new();
    let mut stage = Stage::new();
    let mut is_result = false;
    for line in text.lines() {
        if line == "----" {
            is_result = true;
            let _ = writeln!(out, "----\n{}", stage.take());
        } else if line.is_empty() {
            if !is_result {
                out.push('\n');
            }
            is_result = false;
        } else if !is_result {
            let _ = writeln!(out, "{line}");
            if !line.starts_with('#') {
                stage.command(line);
            }
        }
    }
    out.trim_end().to_owned() + "\n"
}

struct Stage {
    owner: Owner,
    meta: Meta,
    now: MonoTime,
    appended: u64,
    last: Option<Effect>,
    effects: Vec<Effect>,
}

impl Stage {
    fn new() -> Self {
        Self {
            owner: Owner::new(
                ShardId::new(1),
                SessionId::new(7),
                1,
                Config {
                    seal_interval_min: Duration::from_secs(1),
                    ledger_entries_max: 4,
                    idle_lac_after: Duration::from_secs(3600),
                    retry_after: Duration::from_millis(100),
                    resend_after: Duration::from_millis(100),
                    retry_after_max: Duration::from_secs(1),
                    straggler_time: Duration::from_millis(500),
                    trouble_time: Duration::from_secs(2),
                    recovery_window: 2,
                    ..Config::default()
                },
            ),
            meta: Meta::new(Quorum::THREE_TWO),
            now: MonoTime::ZERO,
            appended: 0,
            last: None,
            effects: Vec::new(),
        }
    }

    fn handle(&mut self, event: Event) {
        let before = self.effects.len();
        self.owner.handle(self.now, event, &mut self.effects);
        for effect in &self.effects[before..] {
            if matches!(effect, Effect::Claim(_) | Effect::Command(_)) {
                self.last = Some(effect.clone());
            }
        }
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let rest = &words[1..];
        match words[0] {
            "quorum" => self.meta = Meta::new(quorum(rest[0])),
            "bookies" => self.handle(Event::Candidates(rest.iter().map(candidate).collect())),
            "ledger" => {
                let bookies = rest[2..].iter().map(|b| bookie(b)).collect();
                self.meta.add_ledger(log(rest[0]), offset(rest[1]), bookies);
            }
            "claim" => self.handle(Event::Claim),
            "serve" => {
                self.command("bookies b1 b2 b3");
                self.command("claim");
                self.command("commit");
                self.effects.clear();
            }
            "commit" => {
                let outcome = match self.deliver() {
                    ShardOutcome::Committed(view) => Outcome::Committed(Box::new(view)),
                    ShardOutcome::Conflict(view) => Outcome::Conflict(Box::new(view)),
                };
                self.told(outcome);
            }
            "land" => drop(self.deliver()),
            "unknown" => self.told(Outcome::Unknown),
            "refuse" => self.told(Outcome::Refused(Reason::parse(rest[0]).unwrap())),
            "conflict" => self.told(Outcome::Conflict(Box::new(self.meta.view.clone()))),
            "record" => self.handle(Event::Record(Box::new(self.meta.view.clone()))),
            "touch" => self.meta.touch(),
            "depose" => self.meta.depose(),
            "accept-loss" => {
                self.meta.touch();
                self.meta.close(
                    log(rest[0]),
                    LinkEnd {
                        last: entry_or_none(rest[1]),
                        next_offset: offset(rest[2]),
                    },
                );
            }
            "append" => {
                for payload in &rest[1..] {
                    self.append(log(rest[0]), payload);
                }
            }
            "wait" => self.wait(rest[0].parse().unwrap()),
            "roll" => self.handle(Event::Roll(log(rest[0]))),
            "trim" => self.handle(Event::Trim {
                log: log(rest[0]),
                first: LedgerSeq::new(rest[1].parse().unwrap()),
            }),
            "release" => self.handle(Event::Release),
            "retire" => self.handle(Event::Retire),
            "lost" => rest
                .iter()
                .for_each(|b| self.handle(Event::Lost(bookie(b)))),
            "connected" => rest
                .iter()
                .for_each(|b| self.handle(Event::Connected(bookie(b)))),
            _ => self.answer(words[0], rest),
        }
    }

    /// A bookie's answer: `stored 1/0 e0 b1 b2`, `sealed 1/0 e0 b1`, `lac 1/0 e3 b1`, `never 1/0 e1 b1` …
    fn answer(&mut self, what: &str, rest: &[&str]) {
        let ledger = ledger(rest[0]);
        let entry = entry_or_none(rest[1]);
        for from in &rest[2..] {
            let Some(bookie) = from.strip_prefix('b').map(|_| bookie(from)) else {
                continue;
            };
            let added = |result| Answer::Added {
                ledger,
                entry: entry.expect("an entry"),
                result,
            };
            let read = |result| Answer::Read {
                ledger,
                entry: entry.expect("an entry"),
                result,
            };
            let lac = |result| Answer::Lac { ledger, result };
            let by = Epoch::new(9);
            let answer = match what {
                "stored" => added(AddResult::Stored),
                "sealed" => added(AddResult::Sealed(SealedReason::SuccessorSeen)),
                "reborn" => added(AddResult::Sealed(SealedReason::OlderThanBirth)),
                "readonly" => added(AddResult::ReadOnly),
                "busy" => added(AddResult::Busy),
                "mismatch" => added(AddResult::Mismatch),
                "add-fenced" => added(AddResult::Fenced { by }),
                "lac" => lac(LacResult::Lac(entry)),
                "lac-fenced" => lac(LacResult::Fenced { by }),
                "found" | "damaged" => read(ReadResult::Found {
                    entry: found(ledger, entry.expect("an entry"), what == "found"),
                    lac: None,
                }),
                "never" => read(ReadResult::NeverHad),
                "unsure" => read(ReadResult::Unknown),
                "read-fenced" => read(ReadResult::Fenced { by }),
                _ => panic!("no such command: {what}"),
            };
            self.handle(Event::Answer { bookie, answer });
        }
    }

    fn append(&mut self, log: LogKind, payload: &str) {
        self.appended += 1;
        self.handle(Event::Append {
            log,
            token: Token::new(self.appended),
            payload: Payload::whole(Bytes::copy_from_slice(payload.as_bytes())),
            next_offset: Offset::new(self.appended),
        });
    }

    fn deliver(&mut self) -> ShardOutcome {
        match self.last.as_ref().expect("a command was sent") {
            Effect::Claim(claim) => self.meta.claim(claim),
            Effect::Command(command) => self.meta.change(command),
            _ => unreachable!(),
        }
    }

    fn told(&mut self, outcome: Outcome) {
        let command = match self.last.as_ref().expect("a command was sent") {
            Effect::Claim(claim) => claim.command,
            Effect::Command(command) => command.command,
            _ => unreachable!(),
        };
        self.handle(Event::Outcome { command, outcome });
    }

    /// Lets milliseconds pass, and calls at each deadline.
    fn wait(&mut self, millis: u64) {
        let until = self.now.after(Duration::from_millis(millis));
        for _ in 0..100 {
            let Some(at) = self.owner.deadline().filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(at);
            self.handle(Event::Deadline);
        }
        panic!("deadlines without end at {:?}", self.now);
    }

    /// What the owner did since the last time, in words; equal requests to several bookies on one line.
    fn take(&mut self) -> String {
        let mut out = String::new();
        let mut open: Option<String> = None;
        for effect in self.effects.drain(..) {
            if let Effect::Send { bookie, request } = &effect {
                let text = request_text(request);
                if open.as_ref() == Some(&text) {
                    out.pop();
                    let _ = writeln!(out, " {bookie}");
                } else {
                    let _ = writeln!(out, "{text} -> {bookie}");
                    open = Some(text);
                }
            } else {
                open = None;
                let _ = writeln!(out, "{}", effect_text(&effect));
            }
        }
        out
    }
}

fn request_text(request: &Request) -> String {
    match request {
        Request::Add(add) => {
            let payload = add.entry.payload.to_bytes();
            format!(
                "{} {} {} {:?} epoch={} lac={}",
                match add.kind {
                    AddKind::Write => "add",
                    AddKind::Recovery => "write back",
                    AddKind::Repair => "repair",
                },
                add.ledger,
                add.entry.id,
                String::from_utf8_lossy(&payload),
                add.epoch,
                entry_text(add.lac),
            )
        }
        Request::Read(read) => {
            let fence = read.fence.map(Epoch::get);
            format!("read {} {} fence={fence:?}", read.ledger, read.entry)
        }
        Request::ReadLac(read) => {
            format!(
                "read lac {} fence={:?}",
                read.ledger,
                read.fence.map(Epoch::get)
            )
        }
        Request::SetLac(set) => format!("set lac {} {}", set.ledger, set.lac),
    }
}

fn effect_text(effect: &Effect) -> String {
    let end = |end: &LinkEnd| format!("{}..{}", entry_text(end.last), end.next_offset);
    match effect {
        Effect::Send { .. } => unreachable!(),
        Effect::Claim(_) => "claim".to_owned(),
        Effect::Command(command) => {
            let change = match &command.change {
                ShardChange::CloseRecovered { message, state } => {
                    let (message, state) = (message.as_ref().map(end), state.as_ref().map(end));
                    format!("close recovered message={message:?} state={state:?}")
                }
                ShardChange::Extend {
                    log,
                    close,
                    successor,
                } => {
                    let close = close.as_ref().map(end);
                    format!("extend {log:?} close={close:?} successor={successor:?}")
                }
                ShardChange::Trim { log, first } => format!("trim {log:?} first={first}"),
                ShardChange::Release => "release".to_owned(),
            };
            let id = command.command.get() & 0xfff;
            format!("command {id:03x} on {}: {change}", command.planned_on)
        }
        Effect::Opened(view) => format!("opened epoch={}", view.record.epoch),
        Effect::Confirmed {
            ledger,
            entry,
            token,
            next_offset,
            ..
        } => format!("confirm {ledger} {entry} {token:?} next={next_offset}"),
        Effect::Closed {
            ledger, end: at, ..
        } => format!("closed {ledger} {}", end(at)),
        Effect::Extended {
            ledger,
            first_offset,
            ..
        } => format!(
            "extended {} first={first_offset} {:?}",
            ledger.id, ledger.ensemble
        ),
        Effect::Trimmed {
            log,
            first,
            first_offset,
        } => format!("trimmed {log:?} first={first} offset={first_offset}"),
        Effect::Stuck(Stuck::Recovery {
            ledger,
            waiting_for,
        }) => format!("stuck {ledger} waiting for {waiting_for:?}"),
        Effect::Stuck(Stuck::TooFewBookies { log }) => format!("stuck too few bookies {log:?}"),
        Effect::Stuck(Stuck::Meta { refused, .. }) => format!("stuck meta refused={refused:?}"),
        Effect::Mismatch {
            bookie,
            ledger,
            entry,
        } => format!("mismatch {bookie} {ledger} {entry}"),
        Effect::Over(over) => format!("over: {over}"),
    }
}

fn found(ledger: LedgerId, id: EntryId, is_intact: bool) -> Entry {
    let payload = Payload::whole(Bytes::from(format!("x{}", id.get())));
    let mut entry = Entry::new(ledger, id, Offset::new(100 + id.get()), payload);
    if !is_intact {
        entry.next_offset = Offset::new(0);
    }
    entry
}

fn entry_text(entry: Option<EntryId>) -> String {
    entry.map_or_else(|| "-".to_owned(), |entry| entry.to_string())
}

fn number(text: &str) -> u64 {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no number in {text:?}"))
}

fn quorum(text: &str) -> Quorum {
    let (write, ack) = text.split_once('/').expect("write/ack");
    Quorum::new(write.parse().unwrap(), ack.parse().unwrap()).unwrap()
}

fn offset(text: &str) -> Offset {
    Offset::new(number(text))
}

fn bookie(text: &str) -> BookieId {
    BookieId::new(number(text))
}

/// `b1`, or `!b1` for one that is down.
fn candidate(text: &&str) -> Candidate {
    Candidate {
        zone: None,
        bookie: bookie(text),
        writable: true,
        live: !text.starts_with('!'),
    }
}

fn entry_or_none(text: &str) -> Option<EntryId> {
    (text != "-").then(|| EntryId::new(number(text)))
}

fn log(text: &str) -> LogKind {
    match text {
        "message" => LogKind::Message,
        "state" => LogKind::State,
        _ => panic!("no such log: {text}"),
    }
}

fn ledger(text: &str) -> LedgerId {
    let (log, seq) = text.split_once('/').expect("log/seq");
    LedgerId::new(
        LogId::new(log.parse().unwrap()),
        LedgerSeq::new(seq.parse().unwrap()),
    )
}
