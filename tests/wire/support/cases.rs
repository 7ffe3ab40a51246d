//! The HTTP/1 case files of `tests/vectors/http1`, and how their segments are played.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub fn load(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/vectors/http1/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("case file");
    if text.contains("gzip_zeros_mib") {
        gzip_chunks(GZIP_MIB);
    }
    let all: Value = serde_json::from_str(&text).expect("case file is JSON");
    all["cases"].as_array().expect("cases").clone()
}

/// One character is one byte.
pub fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("latin-1")).collect()
}

/// What is left to do with the connection after the script.
#[derive(PartialEq, Debug)]
pub enum Ending {
    Open,
    Close,
    /// FIN without TLS's close_notify.
    Drop,
}

/// Writes the segments in order. A peer that stops reading early ends the script; that is for the judge to weigh.
pub async fn play<S: AsyncWrite + Unpin>(segments: &Value, io: &mut S) -> Ending {
    for segment in segments.as_array().expect("segments") {
        let written = match segment {
            Value::String(text) => io.write_all(&latin1(text)).await,
            Value::Object(map) => {
                if let Some(text) = map.get("repeat") {
                    let times = map["times"].as_u64().expect("times") as usize;
                    io.write_all(&latin1(text.as_str().expect("text")).repeat(times)).await
                } else if let Some(text) = map.get("numbered") {
                    let times = map["times"].as_u64().expect("times");
                    let text = text.as_str().expect("text");
                    let all: String = (0..times).map(|n| text.replace("{n}", &n.to_string())).collect();
                    io.write_all(&latin1(&all)).await
                } else if let Some(ms) = map.get("pause_ms") {
                    io.flush().await.ok();
                    tokio::time::sleep(Duration::from_millis(ms.as_u64().expect("ms"))).await;
                    Ok(())
                } else if let Some(text) = map.get("drip") {
                    drip(io, text.as_str().expect("text"), map).await
                } else if map.contains_key("half_close") {
                    io.shutdown().await
                } else if let Some(how) = map.get("close") {
                    return if how.is_string() { Ending::Drop } else { Ending::Close };
                } else if let Some(mib) = map.get("gzip_zeros_mib") {
                    io.write_all(gzip_chunks(mib.as_u64().expect("MiB"))).await
                } else {
                    // Segments that say when to speak are played by the origin itself.
                    let early = map.get("send_on_connect").or_else(|| map.get("respond_before_body"));
                    match early {
                        Some(text) => io.write_all(&latin1(text.as_str().expect("text"))).await,
                        None => Ok(()),
                    }
                }
            }
            other => panic!("segment {other}"),
        };
        if written.is_err() {
            break;
        }
    }
    io.flush().await.ok();
    Ending::Open
}

async fn drip<S: AsyncWrite + Unpin>(
    io: &mut S,
    text: &str,
    map: &serde_json::Map<String, Value>,
) -> std::io::Result<()> {
    let every = Duration::from_millis(map["every_ms"].as_u64().expect("ms"));
    let pieces: Vec<Vec<u8>> = match map.get("times").and_then(Value::as_u64) {
        Some(times) => vec![latin1(text); times as usize],
        None => latin1(text).into_iter().map(|b| vec![b]).collect(),
    };
    for piece in pieces {
        io.write_all(&piece).await?;
        io.flush().await?;
        tokio::time::sleep(every).await;
    }
    Ok(())
}

const GZIP_MIB: u64 = 1024;

/// So many MiB of zeros, gzipped, in one chunked body. Made once, before the first connection: it takes seconds, in
/// which an origin would be silent between its head and its body.
fn gzip_chunks(mib: u64) -> &'static [u8] {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    assert_eq!(mib, GZIP_MIB, "one size is made");
    MADE.get_or_init(|| gzip(mib))
}

fn gzip(mib: u64) -> Vec<u8> {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1024 * 1024];
    for _ in 0..mib {
        gzip.write_all(&zeros).expect("memory");
    }
    let data = gzip.finish().expect("memory");
    let mut out = format!("{:x}\r\n", data.len()).into_bytes();
    out.extend_from_slice(&data);
    out.extend_from_slice(b"\r\n0\r\n\r\n");
    out
}

/// Reads until the peer ends, `enough` says so, or `patience` is over. `(bytes, ended)`; an error counts as an end.
pub async fn listen<S: AsyncRead + Unpin>(
    io: &mut S,
    patience: Duration,
    mut enough: impl FnMut(&[u8]) -> bool,
) -> (Vec<u8>, Option<std::io::Result<()>>) {
    let mut all = Vec::new();
    let deadline = tokio::time::Instant::now() + patience;
    while !enough(&all) {
        let mut piece = [0; 16 * 1024];
        match tokio::time::timeout_at(deadline, io.read(&mut piece)).await {
            Err(_) => return (all, None),
            Ok(Ok(0)) => return (all, Some(Ok(()))),
            Ok(Ok(n)) => all.extend_from_slice(&piece[..n]),
            Ok(Err(error)) => return (all, Some(Err(error))),
        }
    }
    (all, None)
}
