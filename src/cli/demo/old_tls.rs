//! Both ends of TLS 1.1, as far as they get: a client's hello, and a server that answers one. rustls speaks neither,
//! and exeat refuses from these bytes alone.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::origin::Seen;
use super::{Error, random};
use crate::engine::hello::{self, Hello, MAX_HELLO};

const TLS_1_1: u16 = 0x0302;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA: what TLS 1.1 had to offer.
const SUITE: [u8; 2] = [0xc0, 0x13];

/// A hello that offers TLS 1.1 at best, for `name` (RFC 4346 7.4.1.2, RFC 6066 3).
pub fn client_hello(name: &str) -> Result<Vec<u8>, Error> {
    let entry = [&[0][..], &vec16(name.as_bytes())].concat();
    let server_name = [&[0, 0][..], &vec16(&vec16(&entry))].concat();
    let body = [&before_suites()?[..], &vec16(&SUITE), &[1, 0], &vec16(&server_name)].concat();
    Ok(record(CLIENT_HELLO, &body))
}

/// Answers a client's hello as a server of its age does: with the client's version or its own, whichever is lower.
pub async fn serve(mut socket: TcpStream, seen: &Seen) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let hello = loop {
        match hello::read(&bytes) {
            Hello::Client(hello) => break hello,
            Hello::NeedMore { .. } if bytes.len() < MAX_HELLO && socket.read_buf(&mut bytes).await? > 0 => {}
            _ => return Ok(()),
        }
    };
    let chosen = hello.legacy_version.min(TLS_1_1).to_be_bytes();
    let mut body = before_suites()?;
    body[..2].copy_from_slice(&chosen);
    body.extend_from_slice(&[SUITE[0], SUITE[1], 0]);
    socket.write_all(&record(SERVER_HELLO, &body)).await?;
    // Alerts end it. Should the client send its request all the same, it is counted.
    let mut header = [0; 5];
    while socket.read_exact(&mut header).await.is_ok() {
        let mut payload = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        socket.read_exact(&mut payload).await?;
        if header[0] == APPLICATION_DATA {
            seen.add_bytes(payload.len());
        }
    }
    Ok(())
}

/// Version, random, and no session.
fn before_suites() -> Result<Vec<u8>, Error> {
    let mut nonce = [0; 32];
    random(&mut nonce)?;
    Ok([&TLS_1_1.to_be_bytes()[..], &nonce, &[0]].concat())
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let message = [&[kind, 0][..], &vec16(body)].concat();
    [&[HANDSHAKE][..], &TLS_1_1.to_be_bytes(), &vec16(&message)].concat()
}

fn vec16(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("hellos of ours are short");
    [&length.to_be_bytes()[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::hello::server::{self, ServerFirst};

    #[test]
    fn the_hello_is_one_of_tls_1_1_for_its_name() {
        let bytes = client_hello("api.partner.example").unwrap();
        let Hello::Client(hello) = hello::read(&bytes) else { panic!("{bytes:?}") };
        assert_eq!((hello.offered(), hello.below_floor()), ("TLSv1.1", true));
        assert_eq!(
            hello.sni.and_then(|sni| sni.as_name().map(str::to_owned)).unwrap(),
            "api.partner.example"
        );
    }

    #[tokio::test]
    async fn the_server_answers_tls_1_1_and_counts_what_is_sent_all_the_same() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let seen = Seen::default();
        let talk = async move {
            client.write_all(&client_hello("api.partner.example").unwrap()).await.unwrap();
            let mut answer = [0; 11];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(server::first(&answer), ServerFirst::Chose(TLS_1_1));
            client.write_all(&[APPLICATION_DATA, 3, 2, 0, 4, 1, 2, 3, 4]).await.unwrap();
        };
        let (served, ()) = tokio::join!(serve(socket, &seen), talk);
        served.unwrap();
        assert_eq!(seen.now().bytes, 4);
    }
}
