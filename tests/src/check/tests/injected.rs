//! One anomaly, planted at random into a correct history: the judge finds exactly that one.
//!
//! This table is also the list of what re-breaks each check, as `conventions.md` asks for.

use super::generator::{History, Wishes, generate, judge, name, partition};
use crate::check::Check;
use crate::history::{Delivered, Event, Name, Outcome, Received, Sent, Stored, Tail};
use crate::workload::Prng;

/// Seeds tried for each anomaly. Some histories have no place for it.
const SEEDS: u64 = 60;

/// A delivered message: where in the history, and where in its line.
type At = (usize, usize);

/// Plants an anomaly; false when this history has no place for it.
type Plant = fn(&mut History, &mut Prng) -> bool;

fn expect_exactly(check: Check, wishes: Wishes, plant: Plant) {
    let mut planted = 0;
    for seed in 0..SEEDS {
        let mut history = generate(seed, 150 + 5 * seed, wishes);
        if !plant(&mut history, &mut Prng::new(!seed)) {
            continue;
        }
        planted += 1;
        let report = judge(&history);
        let found: Vec<Check> = report.violations.keys().copied().collect();
        assert_eq!(found, [check], "seed={seed}\n{report}");
    }
    assert!(planted > 10, "{check} was planted {planted} times only");
}

fn plain(check: Check, plant: Plant) {
    expect_exactly(check, Wishes::default(), plant);
}

/// The deliveries of subscription `sub`, in order.
fn deliveries(history: &History, sub: &str) -> Vec<At> {
    let mut all = Vec::new();
    for (line, event) in history.iter().enumerate() {
        if let Event::Recv(received) = event
            && received.sub.as_str() == sub
        {
            all.extend((0..received.ms.len()).map(|item| (line, item)));
        }
    }
    all
}

fn received(history: &mut History, line: usize) -> &mut Received<'static> {
    match &mut history[line] {
        Event::Recv(received) => received,
        other => panic!("a recv is expected, not {other:?}"),
    }
}

fn delivered(history: &History, (line, item): At) -> (Received<'static>, Delivered<'static>) {
    match &history[line] {
        Event::Recv(received) => (received.clone(), received.ms[item].clone()),
        other => panic!("a recv is expected, not {other:?}"),
    }
}

fn pick(prng: &mut Prng, all: &[At]) -> Option<At> {
    (!all.is_empty()).then(|| *prng.pick(all))
}

/// Inserts a delivery right after line `line`, in the same session.
fn insert_after(history: &mut History, line: usize, ms: Vec<Delivered<'static>>) {
    let mut received = received(history, line).clone();
    received.ms = ms;
    history.insert(line + 1, Event::Recv(received));
}

/// The first offset that nothing in partition `p` has.
fn free_offset(history: &History, p: &Name<'_>) -> u64 {
    let mut next = 0;
    for event in history {
        match event {
            Event::Recv(received) if received.p == *p => {
                next = received
                    .ms
                    .iter()
                    .map(|m| m.o + 1)
                    .max()
                    .max(Some(next))
                    .unwrap_or(next);
            }
            Event::Ok(stored) if stored.p == *p => {
                next = stored.o.map_or(next, |o| next.max(o + 1));
            }
            _ => {}
        }
    }
    next
}

/// Removes every delivery of a message to `sub`, and what `sub` said of it.
fn forget(history: &mut History, sub: &str, p: &Name<'_>, w: &Name<'_>, n: u64) {
    for event in history.iter_mut() {
        match event {
            Event::Recv(received) if received.sub.as_str() == sub && received.p == *p => {
                received.ms.retain(|m| (&m.w, m.n) != (w, n));
            }
            Event::Ack(acked) | Event::AckOk(acked) | Event::Nack(acked)
                if acked.sub.as_str() == sub && acked.p == *p =>
            {
                acked
                    .ms
                    .retain(|(writer, number)| (writer, *number) != (w, n));
            }
            _ => {}
        }
    }
}

fn was_acked(history: &History, p: &Name<'_>, w: &Name<'_>, n: u64) -> bool {
    history
        .iter()
        .any(|event| matches!(event, Event::Ok(ok) if (&ok.p, &ok.w, ok.n) == (p, w, n)))
}

fn last_line(history: &History, sub: &str) -> Option<usize> {
    deliveries(history, sub).last().map(|&(line, _)| line)
}

fn lose(history: &mut History, prng: &mut Prng, is_acked: bool) -> bool {
    let all: Vec<At> = deliveries(history, "shared")
        .into_iter()
        .filter(|&at| {
            let (line, item) = delivered(history, at);
            was_acked(history, &line.p, &item.w, item.n) == is_acked
        })
        .collect();
    let Some(at) = pick(prng, &all) else {
        return false;
    };
    let (line, item) = delivered(history, at);
    forget(history, "shared", &line.p, &item.w, item.n);
    true
}

#[test]
fn lost_acked() {
    plain(Check::LostAcked, |history, prng| lose(history, prng, true));
}

#[test]
fn lost_visible() {
    plain(Check::LostVisible, |history, prng| {
        lose(history, prng, false)
    });
}

#[test]
fn lost_unacked() {
    plain(Check::LostUnacked, |history, prng| {
        // A delivery to a session that ends: keep that one, drop whatever came later.
        let last_close = history.iter().rposition(
            |event| matches!(event, Event::Close(close) if close.c.as_str() == "shared-c0"),
        );
        let Some(last_close) = last_close else {
            return false;
        };
        let all: Vec<At> = deliveries(history, "shared")
            .into_iter()
            .filter(|&at| at.0 < last_close && delivered(history, at).0.c.as_str() == "shared-c0")
            .collect();
        let Some(at) = pick(prng, &all) else {
            return false;
        };
        let (line, item) = delivered(history, at);
        forget(history, "shared", &line.p, &item.w, item.n);
        received(history, at.0).ms.push(item);
        true
    });
}

#[test]
fn phantom() {
    plain(Check::Phantom, |history, prng| {
        let Some(at) = pick(prng, &deliveries(history, "exclusive")) else {
            return false;
        };
        let (_, mut item) = delivered(history, at);
        item.n += prng.next_u64() >> 2;
        insert_after(history, at.0, vec![item]);
        true
    });
}

#[test]
fn aborted_read() {
    plain(Check::AbortedRead, |history, prng| {
        // The last number of a writer was refused. Everybody gets it all the same.
        let refused: Vec<(Name<'static>, Name<'static>, u64)> = history
            .iter()
            .filter_map(|event| match event {
                Event::Send(sent) if sent.h == Some(7) => {
                    Some((sent.p.clone(), sent.w.clone(), sent.n))
                }
                _ => None,
            })
            .collect();
        let (p, w, n) = prng.pick(&refused).clone();
        let o = free_offset(history, &p);
        let end = history
            .iter()
            .position(|event| matches!(event, Event::Drained(_)))
            .expect("every history drains");
        for (sub, consumer) in [
            ("reader", "reader-c0"),
            ("exclusive", "exclusive-c0"),
            ("failover", "failover-c0"),
            ("shared", "shared-c1"),
            ("keyed", "keyed-c1"),
            ("latecomer", "latecomer-c0"),
        ] {
            let item = Delivered {
                w: w.clone(),
                n,
                o,
                redelivered: false,
                hash: None,
                astray: None,
            };
            history.insert(
                end,
                Event::Recv(Received {
                    t: u64::MAX - 1,
                    sub: name(sub),
                    c: name(consumer),
                    p: p.clone(),
                    ms: vec![item],
                }),
            );
        }
        true
    });
}

#[test]
fn corrupt() {
    plain(Check::Corrupt, |history, prng| {
        let Some((line, item)) = pick(prng, &deliveries(history, "keyed")) else {
            return false;
        };
        let hash = &mut received(history, line).ms[item].hash;
        *hash = hash.map(|hash| hash ^ 1);
        true
    });
}

#[test]
fn misrouted() {
    plain(Check::Misrouted, |history, prng| {
        let Some(at) = pick(prng, &deliveries(history, "reader")) else {
            return false;
        };
        let (_, mut item) = delivered(history, at);
        item.astray = Some(name("elsewhere"));
        received(history, at.0).ms.insert(at.1, item);
        true
    });
}

#[test]
fn inconsistent_offset() {
    plain(Check::InconsistentOffset, |history, _| {
        let p = partition(0);
        let Some(o) = free_offset(history, &p).checked_sub(1) else {
            return false;
        };
        let w = name("intruder");
        let everybody = super::generator::SUBS.map(|(sub, _)| name(sub)).to_vec();
        let t = u64::MAX - 3;
        let sent = Event::Send(Sent {
            t,
            w: w.clone(),
            p: p.clone(),
            n: 0,
            k: None,
            h: None,
            due: None,
            x: everybody,
        });
        let stored = Event::Ok(Stored {
            t: t + 1,
            w,
            p,
            n: 0,
            o: Some(o),
            ep: None,
        });
        history.splice(history.len() - 1..history.len() - 1, [sent, stored]);
        true
    });
}

#[test]
fn duplicate() {
    plain(Check::Duplicate, |history, prng| {
        let Some(at) = pick(prng, &deliveries(history, "shared")) else {
            return false;
        };
        let (line, mut item) = delivered(history, at);
        item.o = free_offset(history, &line.p);
        insert_after(history, at.0, vec![item]);
        true
    });
}

#[test]
fn ack_offset_mismatch() {
    plain(Check::AckOffsetMismatch, |history, prng| {
        let oks: Vec<usize> = (0..history.len())
            .filter(|&line| matches!(history[line], Event::Ok(_)))
            .collect();
        if oks.is_empty() {
            return false;
        }
        let line = *prng.pick(&oks);
        let Event::Ok(stored) = history[line].clone() else {
            return false;
        };
        let free = free_offset(history, &stored.p);
        history[line] = Event::Ok(Stored {
            o: Some(free),
            ep: None,
            ..stored
        });
        true
    });
}

#[test]
fn producer_order() {
    let wishes = Wishes {
        swap_producer_order: true,
        ..Wishes::default()
    };
    // Swapped as it was stored; histories in which it never came to that are left out.
    expect_exactly(Check::ProducerOrder, wishes, |history, _| {
        judge(history)
            .violations
            .contains_key(&Check::ProducerOrder)
    });
}

#[test]
fn realtime_order() {
    let wishes = Wishes {
        fill_hole_late: true,
        ..Wishes::default()
    };
    expect_exactly(Check::RealtimeOrder, wishes, |history, _| {
        // Something must have been acked above the hole.
        let hole = history.iter().find_map(|event| match event {
            Event::Ok(stored) if stored.w.as_str() == "late" => stored.o,
            _ => None,
        });
        history
            .iter()
            .any(|event| matches!(event, Event::Ok(ok) if ok.p == partition(0) && ok.o > hole))
    });
}

#[test]
fn epoch_regression() {
    plain(Check::EpochRegression, |history, _| {
        let mut last: Option<(u64, usize)> = None;
        let mut count = 0;
        for (line, event) in history.iter().enumerate() {
            if let Event::Ok(ok) = event
                && ok.p == partition(0)
                && let (Some(o), Some(_)) = (ok.o, ok.ep)
            {
                count += 1;
                last = last.max(Some((o, line)));
            }
        }
        let Some((_, line)) = last.filter(|_| count > 1) else {
            return false;
        };
        if let Event::Ok(ok) = &mut history[line] {
            ok.ep = Some(0);
        }
        true
    });
}

#[test]
fn offset_gap() {
    plain(Check::OffsetGap, |history, prng| {
        let Some(at) = pick(prng, &deliveries(history, "reader")) else {
            return false;
        };
        let (line, item) = delivered(history, at);
        if item.o == 0 || item.o + 1 >= free_offset(history, &line.p) {
            return false;
        }
        for (sub, _) in super::generator::SUBS {
            forget(history, sub, &line.p, &item.w, item.n);
        }
        let (p, w, n) = (line.p, item.w, item.n);
        history.retain(|event| match event {
            Event::Send(x) => (&x.p, &x.w, x.n) != (&p, &w, n),
            Event::Ok(x) => (&x.p, &x.w, x.n) != (&p, &w, n),
            Event::Fail(x) | Event::Info(x) => (&x.p, &x.w, x.n) != (&p, &w, n),
            _ => true,
        });
        true
    });
}

#[test]
fn time_travel() {
    plain(Check::TimeTravel, |history, prng| {
        let Some(at) = pick(prng, &deliveries(history, "shared")) else {
            return false;
        };
        let (line, item) = delivered(history, at);
        let sent = history.iter().find_map(|event| match event {
            Event::Send(x) if (&x.p, &x.w, x.n) == (&line.p, &item.w, item.n) => Some(x.t),
            _ => None,
        });
        received(history, at.0).t = sent.expect("it was sent") - 1;
        true
    });
}

/// A new delivery in the first session of the reader: nothing of another session comes into it.
fn first_of_reader(history: &History) -> Vec<At> {
    let end = history
        .iter()
        .enumerate()
        .filter(|(_, event)| matches!(event, Event::Open(open) if open.sub.as_str() == "reader"))
        .map(|(line, _)| line)
        .nth(1)
        .unwrap_or(history.len());
    let all = deliveries(history, "reader").into_iter();
    all.filter(|&(line, _)| line < end).collect()
}

fn go_back(history: &mut History, prng: &mut Prng, is_internal: bool) -> bool {
    let Some(at) = pick(prng, &first_of_reader(history)) else {
        return false;
    };
    let (line, item) = delivered(history, at);
    let earlier: Vec<At> = first_of_reader(history)
        .into_iter()
        .filter(|&other| {
            let (l, i) = delivered(history, other);
            l.p == line.p && i.o < item.o
        })
        .collect();
    let Some(earlier) = pick(prng, &earlier) else {
        return false;
    };
    let (_, back) = delivered(history, earlier);
    if is_internal {
        received(history, at.0).ms.insert(at.1 + 1, back);
    } else if at.1 + 1 == line.ms.len() {
        insert_after(history, at.0, vec![back]);
    } else {
        return false;
    }
    true
}

#[test]
fn nonmonotonic() {
    plain(Check::Nonmonotonic, |history, prng| {
        go_back(history, prng, false)
    });
}

#[test]
fn int_nonmonotonic() {
    plain(Check::IntNonmonotonic, |history, prng| {
        go_back(history, prng, true)
    });
}

#[test]
fn dup_in_session() {
    plain(Check::DupInSession, |history, prng| {
        let Some(at) = pick(prng, &first_of_reader(history)) else {
            return false;
        };
        let (_, item) = delivered(history, at);
        received(history, at.0).ms.insert(at.1, item);
        true
    });
}

/// Takes one message out of the reader's first session and gives it again later, as a repeat.
fn leave_out(history: &mut History, prng: &mut Prng, is_internal: bool) -> bool {
    let inner: Vec<At> = first_of_reader(history)
        .into_iter()
        .filter(|&at| {
            let (line, _) = delivered(history, at);
            let is_inner = at.1 > 0 && at.1 + 1 < line.ms.len();
            let is_alone = line.ms.len() == 1;
            if is_internal { is_inner } else { is_alone }
        })
        .collect();
    let Some(at) = pick(prng, &inner) else {
        return false;
    };
    let (line, mut item) = delivered(history, at);
    let same: Vec<usize> = first_of_reader(history)
        .into_iter()
        .filter(|&other| delivered(history, other).0.p == line.p)
        .map(|(line, _)| line)
        .collect();
    // Others of its line are around it, or lines of its session.
    let behind = match (is_internal, same.first(), same.last()) {
        (true, _, _) => at.0,
        (false, Some(&first), Some(&last)) if first < at.0 && at.0 < last => last,
        _ => return false,
    };
    received(history, at.0).ms.remove(at.1);
    item.redelivered = true;
    insert_after(history, behind, vec![item]);
    true
}

#[test]
fn skip() {
    plain(Check::Skip, |history, prng| leave_out(history, prng, false));
}

#[test]
fn int_skip() {
    plain(Check::IntSkip, |history, prng| {
        leave_out(history, prng, true)
    });
}

#[test]
fn key_order() {
    plain(Check::KeyOrder, |history, prng| {
        // Two first deliveries of one key in one line change places.
        let mut places = Vec::new();
        for at in deliveries(history, "keyed") {
            let (line, item) = delivered(history, at);
            for (other, later) in line.ms.iter().enumerate().skip(at.1 + 1) {
                let is_first = !item.redelivered && !later.redelivered;
                if is_first && later.n % 3 == item.n % 3 && item.o < later.o {
                    places.push((at.0, at.1, other));
                }
            }
        }
        if places.is_empty() {
            return false;
        }
        let &(line, a, b) = prng.pick(&places);
        received(history, line).ms.swap(a, b);
        true
    });
}

#[test]
fn acked_redelivery() {
    plain(Check::AckedRedelivery, |history, prng| {
        // Acked and confirmed, one by one, before the last session opened.
        let Some(last) = last_line(history, "exclusive") else {
            return false;
        };
        let opened = history[..last].iter().rposition(
            |event| matches!(event, Event::Open(open) if open.sub.as_str() == "exclusive"),
        );
        let confirmed: Vec<(Name<'static>, Name<'static>, u64)> = history[..opened.unwrap_or(0)]
            .iter()
            .filter_map(|event| match event {
                Event::AckOk(acked) if acked.sub.as_str() == "exclusive" => Some(acked),
                _ => None,
            })
            .flat_map(|acked| {
                let p = &acked.p;
                acked.ms.iter().map(|(w, n)| (p.clone(), w.clone(), *n))
            })
            .collect();
        if confirmed.is_empty() {
            return false;
        }
        let (p, w, n) = prng.pick(&confirmed).clone();
        let at = deliveries(history, "exclusive").into_iter().find(|&at| {
            let (line, item) = delivered(history, at);
            (line.p, item.w, item.n) == (p.clone(), w.clone(), n)
        });
        let (line, mut item) = delivered(history, at.expect("it was delivered to be acked"));
        item.redelivered = true;
        let now = received(history, last).t;
        history.insert(
            last + 1,
            Event::Recv(Received {
                t: now,
                ms: vec![item],
                ..line
            }),
        );
        true
    });
}

fn change_send(
    history: &mut History,
    prng: &mut Prng,
    sub: &str,
    change: fn(&mut Sent<'static>, &str),
) -> bool {
    let Some(at) = pick(prng, &deliveries(history, sub)) else {
        return false;
    };
    let (line, item) = delivered(history, at);
    for event in history {
        if let Event::Send(sent) = event
            && (&sent.p, &sent.w, sent.n) == (&line.p, &item.w, item.n)
        {
            change(sent, sub);
        }
    }
    true
}

#[test]
fn early_delivery() {
    plain(Check::EarlyDelivery, |history, prng| {
        change_send(history, prng, "reader", |sent, _| {
            sent.due = Some(u64::MAX - 1);
        })
    });
}

#[test]
fn filter_leak() {
    plain(Check::FilterLeak, |history, prng| {
        change_send(history, prng, "shared", |sent, sub| {
            sent.x = vec![name(sub)];
        })
    });
}

#[test]
fn stale_tail() {
    plain(Check::StaleTail, |history, _| {
        let first = history.iter_mut().find_map(|event| match event {
            Event::Tail(tail) => Some(tail),
            _ => None,
        });
        let Some(Tail { t0, t, p, o }) = first else {
            return false;
        };
        // Only tails behind an acked message can be stale.
        let (t0, p) = (*t0, p.clone());
        let _ = t;
        *o = None;
        history
            .iter()
            .any(|event| matches!(event, Event::Ok(ok) if ok.p == p && ok.t < t0))
    });
}

#[test]
fn undrained() {
    plain(Check::Undrained, |history, prng| {
        let drained: Vec<usize> = (0..history.len())
            .filter(|&line| matches!(history[line], Event::Drained(_)))
            .collect();
        history.remove(*prng.pick(&drained));
        true
    });
}

#[test]
fn hung_op() {
    plain(Check::HungOp, |history, prng| {
        let unknown: Vec<usize> = (0..history.len())
            .filter(|&line| matches!(history[line], Event::Info(Outcome { .. })))
            .collect();
        if unknown.is_empty() {
            return false;
        }
        history.remove(*prng.pick(&unknown));
        true
    });
}

#[test]
fn slow_recovery() {
    plain(Check::SlowRecovery, |history, _| {
        // Time stands still for a minute while something is pending: just before some answer.
        let Some(Event::Ok(stored)) = history.iter().rfind(|event| matches!(event, Event::Ok(_)))
        else {
            return false;
        };
        let from = stored.t;
        let late = |t: &mut u64| *t += if *t >= from { 60_000_000_000 } else { 0 };
        for event in history.iter_mut() {
            match event {
                Event::Send(x) => late(&mut x.t),
                Event::Ok(x) => late(&mut x.t),
                Event::Fail(x) | Event::Info(x) => late(&mut x.t),
                Event::Open(x) | Event::Close(x) => late(&mut x.t),
                Event::Recv(x) => late(&mut x.t),
                Event::Ack(x) | Event::AckOk(x) | Event::Nack(x) => late(&mut x.t),
                Event::Sub(x) => {
                    late(&mut x.t0);
                    late(&mut x.t);
                }
                Event::Tail(x) => {
                    late(&mut x.t0);
                    late(&mut x.t);
                }
                _ => {}
            }
        }
        true
    });
}
