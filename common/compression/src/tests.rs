use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use types::Reason;
use types::batch::{self, BatchError, Body, Codec, Compression, MessageParts};

use super::*;

const LIMITS: Limits = Limits {
    batch: batch::Limits {
        message_bytes_max: 5 << 20,
        batch_bytes_max: 8 << 20,
        messages_max: 1 << 16,
    },
    ratio_max: 1_000,
};

fn batch_of<T: AsRef<[u8]>>(payloads: impl IntoIterator<Item = T>) -> Bytes {
    let mut batch = BytesMut::new();
    for payload in payloads {
        let parts = MessageParts {
            payload: payload.as_ref(),
            ..MessageParts::default()
        };
        parts.append_to(&mut batch);
    }
    batch.freeze()
}

/// Bytes that do not shrink, the same each time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

/// Bytes as a codec makes them, whatever their size.
fn squeeze(codec: Codec, plain: &[u8]) -> Vec<u8> {
    match codec {
        Codec::Zstd => zstd::bulk::compress(plain, 1).unwrap(),
        Codec::Lz4 => lz4_flex::block::compress(plain),
        Codec::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
    }
}

fn claim(codec: Codec, uncompressed_bytes: usize) -> Compression {
    Compression {
        codec,
        uncompressed_bytes: uncompressed_bytes.try_into().unwrap(),
    }
}

/// Lines of a log: they shrink as honest data does.
fn lines(count: u32) -> Bytes {
    batch_of((0..count).map(|n| format!("till 4 sold item {n} at {}", n * 7 % 100)))
}

#[test]
fn a_batch_that_a_client_compressed_is_checked_and_opened_as_it_was() {
    for codec in Codec::ALL {
        let plain = lines(500);
        let Body {
            bytes,
            compression: Some(compression),
        } = Compressor::new(codec).compress(plain.clone(), 1_000)
        else {
            panic!("{codec}: it shrinks");
        };
        assert!(bytes.len() < plain.len() / 2, "{codec}");
        assert_eq!(compression, claim(codec, plain.len()));
        let facts = check(compression, 500, &bytes, &LIMITS).unwrap();
        assert_eq!(facts, batch::check(&plain, &LIMITS.batch).unwrap());
        assert_eq!(open(compression, &bytes).unwrap(), plain);
    }
}

#[test]
fn what_does_not_shrink_goes_as_it_is() {
    for codec in Codec::ALL {
        for plain in [batch_of(["x"]), batch_of([noise(100_000)])] {
            let body = Compressor::new(codec).compress(plain.clone(), 1_000);
            assert_eq!(body, plain.into(), "{codec}");
        }
    }
}

#[test]
fn zeros_pass_and_what_no_server_would_take_goes_as_it_is() {
    let honest = batch_of([vec![0; 64 << 10]]);
    let too_good = batch_of([vec![0; 4 << 20]]);
    for codec in Codec::ALL {
        let mut compressor = Compressor::new(codec);
        let body = compressor.compress(honest.clone(), 10);
        check(body.compression.unwrap(), 1, &body.bytes, &LIMITS).unwrap();
        let body = compressor.compress(too_good.clone(), 10);
        assert_eq!(body, too_good.clone().into(), "{codec}");
    }
    let body = Compressor::new(Codec::Zstd).compress(too_good.clone(), 1_000);
    assert_eq!(
        body.compression, None,
        "4 MiB of zeros are a few hundred bytes"
    );
}

#[test]
fn a_stream_that_was_cut_off_or_goes_on_is_refused() {
    for codec in Codec::ALL {
        let plain = lines(50);
        let data = squeeze(codec, &plain);
        let claim = claim(codec, plain.len());
        for len in 0..data.len() {
            assert!(open(claim, &data[..len]).is_err(), "{codec} len={len}");
        }
        let mut longer = data.clone();
        longer.push(0);
        assert!(
            open(claim, &longer).is_err(),
            "{codec}: something behind it"
        );
        let twice = [&data[..], &data[..]].concat();
        assert!(open(claim, &twice).is_err(), "{codec}: twice");
    }
}

#[test]
fn a_batch_of_another_size_than_it_claims_is_refused() {
    for codec in Codec::ALL {
        let plain = lines(50);
        let data = squeeze(codec, &plain);
        let less = open(claim(codec, plain.len() - 1), &data).unwrap_err();
        assert!(matches!(less, OpenError::Stream { .. }), "{codec}: {less}");
        let more = check(claim(codec, plain.len() + 1), 50, &data, &LIMITS).unwrap_err();
        let expected = OpenError::Short {
            claimed: u32::try_from(plain.len()).unwrap() + 1,
            actual: plain.len(),
        };
        assert_eq!(more, CompressedError::Open(expected), "{codec}");
        let problem = more.problem("compressed");
        assert_eq!(problem.reason, Reason::MalformedBatch);
        assert_eq!(
            problem.field.as_deref(),
            Some("compressed.uncompressed_bytes")
        );
        assert_eq!(problem.metadata["actual"], plain.len().to_string());
    }
}

#[test]
fn a_batch_of_another_count_than_it_claims_is_refused() {
    for codec in Codec::ALL {
        let plain = lines(50);
        let data = squeeze(codec, &plain);
        for claimed in [0, 1, 49, 51, u32::MAX] {
            let error = check(claim(codec, plain.len()), claimed, &data, &LIMITS).unwrap_err();
            assert_eq!(
                error,
                CompressedError::Count {
                    claimed,
                    actual: 50
                }
            );
            let problem = error.problem("compressed");
            assert_eq!(problem.reason, Reason::MalformedBatch);
            assert_eq!(problem.field.as_deref(), Some("compressed.message_count"));
        }
    }
}

#[test]
fn what_a_plain_batch_may_not_be_a_compressed_one_may_not_be_either() {
    let limits = Limits {
        batch: batch::Limits {
            message_bytes_max: 1_000,
            batch_bytes_max: 4_000,
            messages_max: 20,
        },
        ..LIMITS
    };
    for codec in Codec::ALL {
        let refused = |plain: &[u8], count| {
            let data = squeeze(codec, plain);
            check(claim(codec, plain.len()), count, &data, &limits).unwrap_err()
        };
        let large = refused(&batch_of([[7; 2_000]]), 1);
        assert!(matches!(
            large,
            CompressedError::Batch(BatchError::MessageTooLarge { message: 0, .. })
        ));
        let problem = large.problem("compressed");
        assert_eq!(problem.reason, Reason::MessageTooLarge);
        assert_eq!(problem.field.as_deref(), Some("compressed.messages[0]"));
        let many = refused(&batch_of(["x"; 21]), 21);
        assert_eq!(
            many,
            CompressedError::Batch(BatchError::TooManyMessages { max: 20 })
        );
        let malformed = refused(b"no batch", 1);
        assert_eq!(
            malformed.problem("compressed").reason,
            Reason::MalformedBatch
        );
    }
    let empty = squeeze(Codec::Zstd, b"");
    let error = check(claim(Codec::Zstd, 0), 0, &empty, &limits).unwrap_err();
    assert_eq!(error, CompressedError::Batch(BatchError::Empty));
}

#[test]
fn a_batch_may_be_no_larger_than_a_plain_one_as_it_comes_and_once_opened() {
    let max = LIMITS.batch.batch_bytes_max;
    for codec in Codec::ALL {
        let gigabytes = Compression {
            codec,
            uncompressed_bytes: u32::MAX,
        };
        let error = check(gigabytes, 1, b"any", &LIMITS).unwrap_err();
        let problem = error.problem("compressed");
        assert_eq!(problem.reason, Reason::MessageTooLarge);
        assert_eq!(
            problem.field.as_deref(),
            Some("compressed.uncompressed_bytes")
        );
        let long = vec![0; max + 1];
        let error = check(claim(codec, 10), 1, &long, &LIMITS).unwrap_err();
        let field = "data";
        let bytes = max + 1;
        assert_eq!(error, CompressedError::TooLarge { field, bytes, max });
    }
}

#[test]
fn a_bomb_is_refused_whatever_it_claims() {
    let plain = vec![0; 64 << 20];
    for codec in Codec::ALL {
        let bomb = squeeze(codec, &plain);
        let modest = open(claim(codec, 1 << 20), &bomb).unwrap_err();
        assert!(
            matches!(modest, OpenError::Stream { .. }),
            "{codec}: {modest}"
        );
        let honest = check(claim(codec, plain.len()), 1, &bomb, &LIMITS).unwrap_err();
        assert!(
            matches!(honest, CompressedError::TooLarge { .. }),
            "{codec}"
        );
    }
    let within = 8 << 20;
    let data = squeeze(Codec::Zstd, &plain[..within]);
    let error = check(claim(Codec::Zstd, within), 1, &data, &LIMITS).unwrap_err();
    assert!(
        matches!(error, CompressedError::Ratio { max: 1_000, .. }),
        "{error}"
    );
    assert_eq!(error.problem("compressed").reason, Reason::MessageTooLarge);
    // A length in the block's own head: nothing is made room for on its word.
    let head = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    assert!(open(claim(Codec::Snappy, 100), &head).is_err());
    // A match of four gigabytes, in 17 MB: it stops where the room ends.
    let mut block = vec![0x1f, b'x', 1, 0];
    block.extend(std::iter::repeat_n(0xff, 17 << 20));
    block.push(0);
    assert!(open(claim(Codec::Lz4, 100), &block).is_err());
}

#[test]
fn zstd_is_one_frame_with_a_window_that_every_decoder_has_memory_for() {
    let plain = lines(50);
    let claim = claim(Codec::Zstd, plain.len());
    let frame = |window_log: u32| {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        std::io::Write::write_all(&mut encoder, &plain).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(open(claim, &frame(23)).unwrap(), plain);
    assert!(open(claim, &frame(24)).is_err(), "a window of 16 MiB");
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
    let data = squeeze(Codec::Zstd, &plain);
    assert!(open(claim, &[&skipped[..], &data[..]].concat()).is_err());
    let (one, two) = plain.split_at(plain.len() / 2);
    let frames = [squeeze(Codec::Zstd, one), squeeze(Codec::Zstd, two)].concat();
    assert!(open(claim, &frames).is_err(), "two frames");
}

#[test]
fn an_lz4_block_ends_as_the_reference_decoder_wants_it() {
    // One literal, a match of so many bytes from it, and so many literals at the end.
    let block = |matched: u8, literals: u8| {
        let mut block = vec![0x10 | (matched - 4), b'x', 1, 0, literals << 4];
        block.extend(vec![b'y'; literals.into()]);
        block
    };
    let opened = |matched: u8, literals: u8| {
        let claim = claim(Codec::Lz4, usize::from(1 + matched + literals));
        open(claim, &block(matched, literals)).is_ok()
    };
    assert!(opened(7, 5));
    assert!(opened(4, 8));
    assert!(!opened(8, 4), "it ends in fewer than five literals");
    assert!(
        !opened(4, 7),
        "its match begins fewer than twelve bytes before the end"
    );
    let mut nowhere = block(7, 5);
    nowhere[2] = 0;
    assert!(
        open(claim(Codec::Lz4, 13), &nowhere).is_err(),
        "an offset of 0"
    );
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(byte).collect()
}

#[test]
fn what_the_reference_libraries_make_is_opened() {
    let payload = "a coffee, a coffee, a coffee, a coffee and a tea";
    let plain = batch_of([payload, payload]);
    // libzstd in one go with a checksum, and as a stream without the size; liblz4's high compression; libsnappy.
    let made = [
        (
            Codec::Zstd,
            "28b52ffd24680d0100c00a320a306120636f666665652c2020616e642061207465610200b9ea44ca1425aae47f73",
        ),
        (
            Codec::Zstd,
            "28b52ffd0068150100c80a320a306120636f666665652c2020616e642061207465610a0200b8eaf4ca1425",
        ),
        (
            Codec::Lz4,
            "ef0a320a306120636f666665652c200a0009af20616e6420612074656134001c506120746561",
        ),
        (
            Codec::Snappy,
            "68340a320a306120636f666665652c206e0a002820616e642061207465610aca3400",
        ),
    ];
    for (codec, hex) in made {
        let claim = claim(codec, plain.len());
        let data = bytes_of(hex);
        assert_eq!(open(claim, &data).as_ref(), Ok(&plain), "{codec}");
        assert_eq!(check(claim, 2, &data, &LIMITS).unwrap().count, 2);
    }
}

fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(Codec::ALL.to_vec())
}

/// Payloads that repeat themselves, and some that do not.
fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (any::<u8>(), 0..5_000_usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop::collection::vec(payload, 1..20)
}

proptest! {
    #[test]
    fn every_batch_comes_back(codec in codec(), payloads in payloads()) {
        let plain = batch_of(&payloads);
        let data = squeeze(codec, &plain);
        let claim = claim(codec, plain.len());
        let count = u32::try_from(payloads.len()).unwrap();
        prop_assert_eq!(check(claim, count, &data, &LIMITS).unwrap().count, count);
        prop_assert_eq!(open(claim, &data).unwrap(), plain);
    }

    #[test]
    fn what_passes_the_check_opens_to_what_it_claims_however_it_was_damaged(
        codec in codec(),
        payloads in payloads(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
    ) {
        let plain = batch_of(&payloads);
        let mut data = squeeze(codec, &plain);
        for (at, bits) in flips {
            let at = at.index(data.len());
            data[at] ^= bits;
        }
        let claim = claim(codec, plain.len());
        let count = u32::try_from(payloads.len()).unwrap();
        if check(claim, count, &data, &LIMITS).is_ok() {
            let opened = open(claim, &data).unwrap();
            prop_assert_eq!(opened.len(), plain.len());
            prop_assert_eq!(batch::records(&opened).count(), payloads.len());
        }
    }

    #[test]
    fn no_bytes_make_a_codec_panic(
        codec in codec(),
        data in prop::collection::vec(any::<u8>(), 0..300),
        claimed in 0..100_000_usize,
    ) {
        if let Ok(opened) = open(claim(codec, claimed), &data) {
            prop_assert_eq!(opened.len(), claimed);
        }
    }
}
