//! A good request, changed at a few places by what smugglers use: most of these are near enough to be accepted.
#![no_main]

use exeat_fuzz::law;
use libfuzzer_sys::fuzz_target;

const REQUESTS: [&[u8]; 4] = [
    b"GET /a?b=c HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\nX-A: 1\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 11\r\nX-A: 1\r\n\r\nhello world",
    b"PUT /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
    b"PUT /a HTTP/1.1\r\nHost: a.test:443\r\nConnection: x-a, close\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\nTrailer: x-amz-checksum-crc32\r\n\r\nb\r\nhello world\r\n0\r\nx-amz-checksum-crc32: DUoRhQ==\r\n\r\n",
];

const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\0",
    b"\x0b",
    b"\"",
    b"0",
    b"00",
    b"+1",
    b"0x",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Host: b.test\r\n",
    b"Connection: keep-alive, host\r\n",
    b"0\r\n\r\n",
    b"GET /b HTTP/1.1\r\nHost: a.test\r\n\r\n",
];

// Which request; then for each change what is done, where (two bytes), and with what.
fuzz_target!(|bytes: &[u8]| {
    let Some((&which, changes)) = bytes.split_first() else { return };
    let mut message = REQUESTS[usize::from(which) % REQUESTS.len()].to_vec();
    for change in changes.chunks_exact(4).take(16) {
        let at = usize::from(u16::from_be_bytes([change[1], change[2]])) % (message.len() + 1);
        let with = usize::from(change[3]);
        let end = (at + with % 32).min(message.len());
        match change[0] % 5 {
            0 => drop(message.splice(at..at, PIECES[with % PIECES.len()].iter().copied())),
            1 => drop(message.drain(at..end)),
            2 => message.insert(at, change[3]),
            3 if at < message.len() => message[at] = change[3],
            _ => {
                let piece = message[at..end].to_vec();
                drop(message.splice(at..at, piece));
            }
        }
    }
    let heard = law::request(&message);
    assert!(heard || !changes.is_empty(), "an unchanged one is taken, and heard");
});
