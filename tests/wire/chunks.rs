//! Bodies signed chunk by chunk on their way: nothing unproven goes upstream, and nothing waits for nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::AsyncWriteExt;

use crate::limits;
use crate::support::aws::{self, S3};
use crate::support::cases;
use crate::support::chunk_signer::{ChunkSigner, seed_of};
use crate::support::sign::{self, Body};

const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const CHUNK: usize = 64 * 1024;

/// A head, and its body's chunks. The bytes of the fills stand nowhere else in them.
fn upload(
    path: &str,
    chunks: &[&[u8]],
    trailer: Option<(&'static str, &str)>,
    http_chunked: bool,
) -> (String, Vec<Vec<u8>>) {
    let decoded = chunks.iter().map(|chunk| chunk.len()).sum::<usize>().to_string();
    let word = if trailer.is_some() { format!("{SIGNED}-TRAILER") } else { SIGNED.to_owned() };
    let mut fields = vec![("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", &*decoded)];
    if let Some((name, _)) = trailer {
        fields.push(("x-amz-trailer", name));
    }
    let head = sign::s3_head("PUT", S3, path, &fields, &Body::Word(&word), None);
    let field = |name: &str| {
        let line = head.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(": ").unwrap().1
    };
    let signer = ChunkSigner {
        id: sign::KEY_ID,
        secret: sign::SECRET,
        region: "us-east-1",
        at: time_of(field("x-amz-date")),
    };
    let chunks = signer.sign(seed_of(field("authorization")), chunks, trailer);
    let framing = match http_chunked {
        true => "transfer-encoding: chunked".to_owned(),
        false => format!("content-length: {}", chunks.concat().len()),
    };
    (head.replacen("\r\n\r\n", &format!("\r\n{framing}\r\n\r\n"), 1), chunks)
}

fn time_of(date: &str) -> SystemTime {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    let at = time::PrimitiveDateTime::parse(date, format).unwrap().assume_utc().unix_timestamp();
    UNIX_EPOCH + Duration::from_secs(at.unsigned_abs())
}

/// As one HTTP chunk.
fn framed(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

#[tokio::test]
async fn a_signed_chunk_goes_on_as_soon_as_it_is_whole_and_the_body_arrives_byte_for_byte() {
    let crc =
        crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &[[b'!'; CHUNK], [b'#'; CHUNK]].concat())
            as u32;
    let value = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, crc.to_be_bytes());
    for trailer in [None, Some(("x-amz-checksum-crc32", &*value))] {
        for http_chunked in [false, true] {
            let (proxy, origin) = aws::start().await;
            let (head, chunks) = upload("/ours/a", &[&[b'!'; CHUNK], &[b'#'; CHUNK]], trailer, http_chunked);
            let wrap = |data: &[u8]| if http_chunked { framed(data) } else { data.to_vec() };
            let mut client = proxy.intercepted(S3).await;
            client.write_all(head.as_bytes()).await.unwrap();
            // All of the first chunk, and the second without its end.
            client.write_all(&wrap(&chunks[0])).await.unwrap();
            let (most, end) = chunks[1].split_at(chunks[1].len() - 3);
            client.write_all(&wrap(most)).await.unwrap();
            client.flush().await.unwrap();
            aws::until("the first chunk", || (origin.count(b'!') == CHUNK).then_some(())).await;
            assert_eq!(origin.count(b'#'), 0, "the second is not proven yet");
            let mut rest = [wrap(end), wrap(&chunks[2])].concat();
            if http_chunked {
                rest.extend_from_slice(b"0\r\n\r\n");
            }
            let answer = aws::ask(&mut client, &rest).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(origin.requests()[0].body == chunks.concat(), "byte for byte");
            let ours = &proxy.events()[0]["additionalEventData"]["exeat"];
            assert_eq!(
                (&ours["signature"], &ours["payload"]),
                (&"verified".into(), &"signed".into()),
                "{ours}"
            );
        }
    }
}

#[tokio::test]
async fn of_a_tampered_chunk_not_one_byte_goes_on_and_the_request_never_completes() {
    for http_chunked in [false, true] {
        let (proxy, origin) = aws::start().await;
        let fills: [&[u8]; 3] = [&[b'!'; CHUNK], &[b'#'; CHUNK], &[b'^'; CHUNK]];
        let (head, mut chunks) = upload("/ours/a", &fills, None, http_chunked);
        *chunks[1].iter_mut().rev().nth(2).unwrap() = b'$';
        let mut wire = head.into_bytes();
        for chunk in &chunks {
            wire.extend(if http_chunked { framed(chunk) } else { chunk.clone() });
        }
        let mut client = proxy.intercepted(S3).await;
        client.write_all(&wire).await.unwrap();
        client.flush().await.unwrap();
        let (answer, _) = cases::listen(&mut client, Duration::from_secs(10), |_| false).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("reason=sigv4.payload;"), "{answer}");
        assert_eq!((origin.count(b'#'), origin.count(b'$'), origin.count(b'^')), (0, 0, 0));
        assert!(origin.requests().is_empty());
        let event = proxy.events().remove(0);
        assert_eq!(event["additionalEventData"]["exeat"]["reason"], "sigv4.payload", "{event}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_early_is_passed_on_while_a_chunk_waits() {
    let (proxy, _origin) = aws::start().await;
    let (head, chunks) = upload("/ours/early", &[&[b'!'; CHUNK], &[b'#'; CHUNK]], None, false);
    let mut client = proxy.intercepted(S3).await;
    client.write_all(head.as_bytes()).await.unwrap();
    // Half a chunk: it will never be proven.
    let answer = aws::ask(&mut client, &chunks[0][..CHUNK / 2]).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Connection: close"), "{answer}");
}

#[tokio::test]
async fn large_chunks_pass_and_one_over_sixteen_mebibytes_is_refused_at_its_first_line() {
    let (proxy, origin) = aws::start().await;
    let large = vec![b'!'; 3 << 20];
    let (head, chunks) = upload("/ours/a", &[&large, &large], None, false);
    let mut client = proxy.intercepted(S3).await;
    let answer = aws::ask(&mut client, &[head.into_bytes(), chunks.concat()].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(origin.requests()[0].body == chunks.concat());

    let over = vec![b'^'; (16 << 20) + 1];
    let (head, chunks) = upload("/ours/a", &[&over], None, false);
    let mut client = proxy.intercepted(S3).await;
    let answer = aws::ask(&mut client, &[head.as_bytes(), &chunks[0][..100]].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("reason=sigv4.unsupported;"), "{answer}");
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(origin.count(b'^'), 0);
}

/// A budget of 1 MiB, of which a chunk needs what its line needs too.
#[tokio::test]
async fn a_chunk_that_spends_the_budget_is_refused_and_the_one_that_just_fits_passes() {
    let (proxy, origin) = limits::start("limits: {turn: 200ms, inspection: 1MiB}\n").await;
    const BUDGET: usize = 1 << 20;
    let (head, chunks) = upload("/ours/a", &[&vec![b'^'; BUDGET]], None, false);
    let mut client = proxy.intercepted(S3).await;
    // All but the end, so that nothing but the budget can end it.
    let most = &chunks[0][..BUDGET / 2];
    let answer = aws::ask(&mut client, &[head.as_bytes(), most].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("reason=limit.inspect;"), "{answer}");
    assert_eq!((origin.requests().len(), origin.count(b'^')), (0, 0));
    let event = proxy.events().remove(0);
    assert_eq!(event["additionalEventData"]["exeat"]["reason"], "limit.inspect", "{event}");
    assert_eq!(proxy.metric("exeat_in_use{resource=\"inspection\"}").await, 0);

    let (head, chunks) = upload("/ours/b", &[&vec![b'!'; BUDGET - 1024]], None, false);
    let mut client = proxy.intercepted(S3).await;
    let answer = aws::ask(&mut client, &[head.as_bytes(), &chunks.concat()].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(origin.requests().len() == 1 && origin.requests()[0].body == chunks.concat());
}

#[tokio::test]
async fn a_chunk_for_which_others_leave_no_room_waits_its_turn_and_small_ones_need_none() {
    let (proxy, origin) = limits::start("limits: {turn: 200ms, inspection: 1MiB}\n").await;
    let put = |chunk: usize, fill: u8| upload("/ours/a", &[&vec![fill; chunk]], None, false);
    let (head, chunks) = put(900 << 10, b'^');
    let mut first = proxy.intercepted(S3).await;
    first.write_all(&[head.as_bytes(), &chunks[0][..1000]].concat()).await.unwrap();
    first.flush().await.unwrap();
    proxy.until_metric("exeat_in_use{resource=\"inspection\"}", 57 << 14).await;

    let (head, chunks) = put(300 << 10, b'#');
    let whole = [head.as_bytes(), &chunks.concat()].concat();
    let answer = aws::ask(&mut proxy.intercepted(S3).await, &whole).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("reason=limit.inspect;"), "{answer}");
    assert_eq!(origin.count(b'#'), 0);
    // A chunk as SDKs sign them is the connection's own.
    let (head, chunks) = put(128 << 10, b'!');
    let small = [head.as_bytes(), &chunks.concat()].concat();
    let answer = aws::ask(&mut proxy.intercepted(S3).await, &small).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(first);
    proxy.until_metric("exeat_in_use{resource=\"inspection\"}", 0).await;
    let answer = aws::ask(&mut proxy.intercepted(S3).await, &whole).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "there is room again: {answer}");
    assert_eq!((origin.requests().len(), origin.count(b'^')), (2, 0));
}

#[tokio::test]
async fn the_last_chunk_of_an_unsigned_stream_waits_for_a_checksum_that_holds() {
    for (value, status) in [("NhCmhg==", "200"), ("NhCmhQ==", "403")] {
        let (proxy, origin) = aws::start().await;
        let fields = [
            ("content-encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", "5"),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ];
        let word = Body::Word("STREAMING-UNSIGNED-PAYLOAD-TRAILER");
        let head = sign::s3_head("PUT", S3, "/ours/a", &fields, &word, None);
        let head = head.replacen("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n", 1);
        let body = format!("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:{value}\r\n\r\n");
        let mut client = proxy.intercepted(S3).await;
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&framed(&body.as_bytes()[..8])).await.unwrap();
        client.flush().await.unwrap();
        aws::until("the data", || origin.saw(b"hello").then_some(())).await;
        let answer =
            aws::ask(&mut client, &[&framed(&body.as_bytes()[8..]), &b"0\r\n\r\n"[..]].concat()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(origin.saw(b"x-amz-checksum-crc32:"), status == "200");
        assert_eq!(origin.requests().len(), usize::from(status == "200"));
    }
}

/// The most memory that the program has ever had, in KiB.
#[cfg(target_os = "linux")]
fn peak(id: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_follows_the_chunk_and_not_the_body() {
    let (proxy, origin) = aws::start().await;
    let chunk = [b'!'; 128 * 1024];
    let mut before = 0;
    for (mebibytes, most) in [(1, usize::MAX), (24, 4 * 1024)] {
        let (head, chunks) = upload("/ours/a", &vec![&chunk[..]; mebibytes * 8], None, false);
        let mut client = proxy.intercepted(S3).await;
        client.write_all(head.as_bytes()).await.unwrap();
        let answer = aws::ask(&mut client, &chunks.concat()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let after = peak(proxy.id());
        assert!(after - before < most, "{mebibytes} MiB took {} KiB more", after - before);
        before = after;
    }
    assert_eq!(origin.requests().len(), 2);
}
