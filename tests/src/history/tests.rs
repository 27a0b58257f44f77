use super::*;

/// One event of each kind, with and without what is optional.
#[expect(
    clippy::too_many_lines,
    reason = "a table of all events, nothing to follow"
)]
fn samples() -> Vec<Event<'static>> {
    let name = Name::from;
    let outcome = || Outcome {
        t: 3,
        w: name("w"),
        p: name("p"),
        n: 1,
    };
    let acked = |ms: Vec<(Name<'static>, u64)>, cu| Acked {
        t: 5,
        sub: name("s"),
        c: name("c"),
        p: name("p"),
        ms,
        cu,
    };
    let session = || Session {
        t: 4,
        sub: name("s \"quoted\" \n"),
        c: name("c"),
    };
    let delivered = |hash, astray| Delivered {
        w: name("w"),
        n: 1,
        o: 7,
        redelivered: true,
        hash,
        astray,
    };
    let mut samples = vec![
        Event::Meta {
            v: 1,
            g: Guarantees::full(),
        },
        Event::Fail(outcome()),
        Event::Info(outcome()),
        Event::Open(session()),
        Event::Close(session()),
        Event::Ack(acked(vec![(name("w"), 1), (name("v"), 2)], None)),
        Event::AckOk(acked(Vec::new(), Some(9))),
        Event::Nack(acked(vec![(name("w"), 1)], None)),
        Event::Seek(Seek {
            t0: 1,
            t: 2,
            sub: name("s"),
            p: name("p"),
            o: 3,
        }),
        Event::Trim(Trim { p: name("p"), o: 3 }),
        Event::Unsub(Unsubscribed {
            sub: name("s"),
            p: name("p"),
        }),
        Event::Deleted(TopicDeleted { t: 4, p: name("p") }),
        Event::Drained(Drained {
            sub: name("s"),
            p: name("p"),
        }),
        Event::End,
    ];
    for (k, h, due, x) in [
        (None, None, None, Vec::new()),
        (
            Some(name("k")),
            Some(9),
            Some(99),
            vec![name("s"), name("r")],
        ),
    ] {
        samples.push(Event::Send(Sent {
            t: 1,
            w: name("w"),
            p: name("p"),
            n: 0,
            k,
            h,
            due,
            x,
        }));
    }
    for (o, ep) in [(None, None), (Some(4), Some(2))] {
        samples.push(Event::Ok(Stored {
            t: 1,
            w: name("w"),
            p: name("p"),
            n: 0,
            o,
            ep,
        }));
    }
    for from in [Start::Earliest, Start::Latest, Start::Offset(5)] {
        samples.push(Event::Sub(Subscribed {
            t0: 1,
            t: 2,
            sub: name("s"),
            p: name("p"),
            ty: SubscriptionType::KeyShared,
            from,
        }));
    }
    samples.push(Event::Recv(Received {
        t: 1,
        sub: name("s"),
        c: name("c"),
        p: name("p"),
        ms: vec![
            delivered(Some(3), None),
            delivered(None, None),
            delivered(None, Some(name("q"))),
        ],
    }));
    for (o, t) in [(None, None), (Some(3), Some(8))] {
        samples.push(Event::Tail(Tail {
            t0: 1,
            t: 2,
            p: name("p"),
            o,
        }));
        samples.push(Event::Nem(Fault {
            f: name("kill"),
            x: name("bookie-1"),
            ph: Phase::Start,
            t,
        }));
    }
    samples
}

#[test]
fn every_event_is_read_as_it_was_written() {
    for event in samples() {
        let line = serde_json::to_vec(&event).unwrap();
        let text = String::from_utf8_lossy(&line);
        assert_eq!(parse(&line).unwrap(), event, "{text}");
    }
}

#[test]
fn the_written_form_is_the_one_of_the_design() {
    let form = |event: &Event<'_>| serde_json::to_string(event).unwrap();
    let name = Name::from;
    assert_eq!(
        form(&Event::Meta {
            v: 1,
            g: Guarantees {
                dense: false,
                ..Guarantees::full()
            },
        }),
        r#"{"e":"meta","v":1,"g":{"dedup":1,"producer_order":1,"linearizable":1,"durable_ack":1,"dense":0,"shared_clock":1,"faults":0}}"#
    );
    assert_eq!(
        form(&Event::Ok(Stored {
            t: 20,
            w: name("w0"),
            p: name("p0"),
            n: 0,
            o: Some(5),
            ep: Some(1),
        })),
        r#"{"e":"ok","t":20,"w":"w0","p":"p0","n":0,"o":5,"ep":1}"#
    );
    assert_eq!(
        form(&Event::Recv(Received {
            t: 30,
            sub: name("s"),
            c: name("c"),
            p: name("p0"),
            ms: vec![Delivered {
                w: name("w0"),
                n: 0,
                o: 5,
                redelivered: false,
                hash: Some(77),
                astray: None,
            }],
        })),
        r#"{"e":"recv","t":30,"sub":"s","c":"c","p":"p0","ms":[["w0",0,5,0,77]]}"#
    );
    assert_eq!(form(&Event::End), r#"{"e":"end"}"#);
}

#[test]
fn numbers_pass_for_names_and_one_message_may_stand_inline() {
    let line = br#"{"e":"recv","t":1,"sub":1,"c":2,"p":3,"w":4,"n":5,"o":6,"r":1,"h":7,"new":[1]}"#;
    let Event::Recv(received) = parse(line).unwrap() else {
        panic!("a recv");
    };
    assert_eq!(received.p.as_str(), "3");
    assert_eq!(received.ms.len(), 1);
    let one = &received.ms[0];
    assert_eq!((one.w.as_str(), one.n, one.o), ("4", 5, 6));
    assert!(one.redelivered);
}

#[test]
fn what_is_no_event_is_an_error_that_says_why() {
    for (line, part) in [
        (&br#"{"e":"send","t":1,"w":"w","p":"p"}"#[..], "key=n"),
        (br#"{"e":"surprise"}"#, "unknown event event=surprise"),
        (br#"{"t":1}"#, "missing field `e`"),
        (b"[]", "not an event"),
        (
            br#"{"e":"ok","t":-1,"w":"w","p":"p","n":1}"#,
            "not an event",
        ),
        (
            br#"{"e":"recv","t":1,"sub":"s","c":"c","p":"p","ms":[["w",1]]}"#,
            "key=ms[2]",
        ),
        (br#"{"e":"ack","t":1,"sub":"s","c":"c","p":"p"}"#, "key=ms"),
        (br#"{"e":"end"} trailing"#, "not an event"),
    ] {
        let error = parse(line).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_cut_last_line_is_told_from_a_damaged_one() {
    let kinds = |text: &str| {
        let mut kinds = Vec::new();
        read_lines(text.as_bytes(), |number, line| {
            kinds.push((
                number,
                match line {
                    Line::Event(_) => "event",
                    Line::Bad(_) => "bad",
                    Line::Cut => "cut",
                },
            ));
        })
        .unwrap();
        kinds
    };
    assert_eq!(
        kinds("{\"e\":\"end\"}\n\n{\"e\":\n{\"e\":\"end\"}\n{\"e\":\"en"),
        [(1, "event"), (3, "bad"), (4, "event"), (5, "cut")]
    );
    assert_eq!(kinds("{\"e\":\"end\"}"), [(1, "event")]);
}

#[test]
fn threads_write_whole_lines_in_the_order_of_their_calls() {
    let writer = HistoryWriter::in_memory(Guarantees::full());
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let writer = &writer;
            scope.spawn(move || {
                for n in 0..500 {
                    writer.record(&Event::Fail(Outcome {
                        t: writer.now(),
                        w: Name::from(thread.to_string()),
                        p: Name::from("p"),
                        n,
                    }));
                }
            });
        }
    });
    let bytes = writer.finish().unwrap();
    let mut next = [0_u64; 4];
    let mut last = false;
    read_lines(&*bytes, |_, line| match line {
        Line::Event(Event::Fail(fail)) => {
            let thread: usize = fail.w.as_str().parse().unwrap();
            assert_eq!(fail.n, next[thread]);
            next[thread] += 1;
        }
        Line::Event(Event::End) => last = true,
        Line::Event(Event::Meta { .. }) => {}
        other => panic!("{other:?}"),
    })
    .unwrap();
    assert_eq!(next, [500; 4]);
    assert!(last);
}

#[test]
fn a_history_goes_to_the_file_that_was_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let writer = HistoryWriter::create(&path, Guarantees::default()).unwrap();
    assert!(writer.finish().unwrap().is_empty());
    let report = crate::check::judge_file(&path, crate::check::Limits::default()).unwrap();
    assert_eq!(report.stats.events, 2);
}
