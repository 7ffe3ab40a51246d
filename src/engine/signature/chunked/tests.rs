//! Unsigned chunks: framing, splits, checksums. Signed ones meet AWS's signer in `tests/sigv4/chunks.rs`.

use super::*;

const GOOD: &str = "c\r\nhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n";

fn check(algorithm: Checksum, length: u64, wire: &[u8], splits: &[usize]) -> Result<(), Refusal> {
    let shape = Shape { decoded_length: length, trailer: Some(algorithm), signed: Signed::No };
    let mut chunked = Chunked::new(shape);
    let mut from = 0;
    for &to in splits.iter().chain([&wire.len()]) {
        chunked.update(&wire[from..to])?;
        from = to;
    }
    chunked.finish().map(|outcome| assert_eq!(outcome, PayloadOutcome::Matched))
}

#[test]
fn matches_however_the_bytes_are_split() {
    for a in 0..=GOOD.len() {
        for b in a..=GOOD.len() {
            check(Checksum::Crc32, 12, GOOD.as_bytes(), &[a, b]).unwrap_or_else(|e| panic!("{a} {b}: {e:?}"));
        }
    }
    let single: Vec<usize> = (0..GOOD.len()).collect();
    check(Checksum::Crc32, 12, GOOD.as_bytes(), &single).unwrap();
}

#[test]
fn data_goes_on_at_once_and_the_last_chunk_when_the_checksum_holds() {
    let end = GOOD.find("\r\n0\r\n").unwrap() + 2;
    for at in 1..=GOOD.len() {
        let shape = Shape { decoded_length: 12, trailer: Some(Checksum::Crc32), signed: Signed::No };
        let mut chunked = Chunked::new(shape);
        let gone = at - chunked.update(&GOOD.as_bytes()[..at]).unwrap();
        let want = match at {
            1..3 => 0,
            _ if at == GOOD.len() => at,
            // Of the line end after the data, and of the last chunk, nothing goes before it is whole.
            _ if at < end => at.min(end - 2),
            _ => end,
        };
        assert_eq!(gone, want, "{at}");
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_of_data_is_refused() {
    for end in 0..GOOD.len() {
        assert!(check(Checksum::Crc32, 12, &GOOD.as_bytes()[..end], &[]).is_err(), "{end}");
    }
    for at in 3..15 {
        let mut wire = GOOD.as_bytes().to_vec();
        wire[at] ^= 1;
        assert!(check(Checksum::Crc32, 12, &wire, &[]).is_err(), "{at}");
    }
}

/// Check values of the catalogues: CRC RevEng, FIPS 180-4 example "abc" (here of "123456789", computed with
/// coreutils for the hashes).
#[test]
fn knows_the_five_algorithms() {
    for (algorithm, value) in [
        (Checksum::Crc32, "cbf43926"),
        (Checksum::Crc32c, "e3069283"),
        (Checksum::Crc64Nvme, "ae8b14860a799888"),
        (Checksum::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        (Checksum::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
    ] {
        let bytes: Vec<u8> =
            (0..value.len()).step_by(2).map(|n| u8::from_str_radix(&value[n..n + 2], 16).unwrap()).collect();
        let text = STANDARD.encode(bytes);
        let wire = format!("4\r\n1234\r\n5\r\n56789\r\n0\r\nX-Amz-Checksum-{algorithm}: {text}\r\n\r\n");
        check(algorithm, 9, wire.as_bytes(), &[]).unwrap_or_else(|e| panic!("{algorithm}: {e:?}"));
        let wrong = wire.replace("1234", "1235");
        assert!(check(algorithm, 9, wrong.as_bytes(), &[]).is_err(), "{algorithm}");
    }
}

#[test]
fn an_empty_object_has_only_the_last_chunk() {
    let wire = b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
    check(Checksum::Crc32, 0, wire, &[]).unwrap();
    assert!(check(Checksum::Crc32, 1, wire, &[]).is_err());
}

#[test]
fn refuses_every_other_framing() {
    for (name, wire) in [
        ("sum too small", "b\r\nhello strea\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n"),
        ("sum too large", "d\r\nhello streamX\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n"),
        ("size past u64", "10000000000000000\r\nhello stream\r\n0\r\n\r\n"),
        ("size that overflows the sum", "ffffffffffffffff\r\nhello stream\r\n"),
        ("no size", "\r\nhello stream\r\n"),
        ("size with a sign", "+c\r\nhello stream\r\n0\r\n"),
        ("size with a blank", "c \r\nhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n"),
        ("extension", "c;a=b\r\nhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n"),
        ("bare LF", "c\nhello stream\n0\nx-amz-checksum-crc32:gtnkmQ==\n\n"),
        ("bare CR", "c\rhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n"),
        ("data without its end", "c\r\nhello stream0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n"),
        ("no trailer", "c\r\nhello stream\r\n0\r\n\r\n"),
        ("other trailer", "c\r\nhello stream\r\n0\r\nx-amz-checksum-crc32c:gtnkmQ==\r\n\r\n"),
        (
            "foreign trailer",
            "c\r\nhello stream\r\n0\r\nx-amz-meta-a:1\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n",
        ),
        (
            "trailer twice",
            "c\r\nhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n",
        ),
        ("wrong checksum", "c\r\nhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmA==\r\n\r\n"),
        ("no base64", "c\r\nhello stream\r\n0\r\nx-amz-checksum-crc32:!\r\n\r\n"),
        ("bytes after the end", "c\r\nhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\nX"),
    ] {
        assert!(check(Checksum::Crc32, 12, wire.as_bytes(), &[]).is_err(), "{name}");
    }
    let endless = "0".repeat(10_000);
    assert!(check(Checksum::Crc32, 12, endless.as_bytes(), &[]).is_err());
}
