//! HTTP to an endpoint of the platform: one request in clear, a bounded answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::KeysError;
use super::ledger::{Call, Ledger, Seen};

/// To connect and to send. What SDKs wait, too.
const PATIENCE: Duration = Duration::from_secs(2);
/// From the request to the answer's last byte: an endpoint that drips must not hold up the keys' next refresh.
const ANSWER: Duration = Duration::from_secs(4);
/// An answer is about 2 KiB, most of it the session token.
const MOST_BYTES: usize = 64 * 1024;

/// HTTP/1.0, so that the answer is neither chunked nor followed by another. Recorded, whatever comes of it.
pub fn ask(
    ledger: &dyn Ledger,
    address: SocketAddr,
    host: &str,
    method: &str,
    path: &str,
    field: Option<(&str, &str)>,
) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    let mut request =
        Zeroizing::new(format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n"));
    if let Some((name, value)) = field {
        if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(KeysError::Endpoint(format!("its `{name}` is no header value")));
        }
        for piece in [name, ": ", value, "\r\n"] {
            request.push_str(piece);
        }
    }
    request.push_str("\r\n");
    let mut body = Zeroizing::default();
    ledger.record(Call { address, method }, &mut |seen| {
        body = exchange(address, request.as_bytes(), seen)?;
        Ok(())
    })?;
    Ok(body)
}

fn exchange(address: SocketAddr, request: &[u8], seen: &mut Seen) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    let told = |source| KeysError::Network { address, source };
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(told)?;
    seen.connected = true;
    let started = Instant::now();
    let mut send = || {
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.write_all(request)?;
        read(&mut socket, started + ANSWER)
    };
    let answer = send();
    seen.waited = started.elapsed();
    let answer = answer.map_err(told)?;
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut slots);
    let Ok(httparse::Status::Complete(end)) = head.parse(&answer) else {
        return Err(KeysError::NotHttp(address));
    };
    seen.status = head.code.unwrap_or_default();
    seen.bytes = (answer.len() - end) as u64;
    if seen.status == 200 {
        Ok(Zeroizing::new(answer[end..].to_vec()))
    } else {
        Err(KeysError::Status { address, status: seen.status })
    }
}

/// All that comes until the other end closes, at most [`MOST_BYTES`].
fn read(socket: &mut TcpStream, deadline: Instant) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // Of its final size from the start: a vector that grows leaves copies of a secret behind.
    let mut answer = Zeroizing::new(vec![0; MOST_BYTES]);
    let mut len = 0;
    while len < answer.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut answer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    answer.truncate(len);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_drips_is_not_waited_for_past_its_deadline() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut asked = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut endpoint, _) = listener.accept().unwrap();
        // It goes on until we hang up.
        let dripping = std::thread::spawn(move || {
            while endpoint.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let read = read(&mut asked, Instant::now() + Duration::from_millis(50));
        let kind = read.unwrap_err().kind();
        assert!(matches!(kind, std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock), "{kind}");
        drop(asked);
        dripping.join().unwrap();
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_not_past_what_an_answer_may_be() {
        for (sent, want) in [(3, 3), (MOST_BYTES + 9, MOST_BYTES)] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut asked = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut endpoint, _) = listener.accept().unwrap();
            let sending = std::thread::spawn(move || drop(endpoint.write_all(&vec![b'x'; sent])));
            assert_eq!(read(&mut asked, Instant::now() + ANSWER).unwrap().len(), want);
            sending.join().unwrap();
        }
    }
}

#[cfg(test)]
pub mod testing {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::thread::JoinHandle;

    /// Gives each answer to one connection, in order; joined, the requests that came.
    pub fn serve(answers: Vec<&'static str>) -> (SocketAddr, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = std::thread::spawn(move || {
            let answer = |answer: &str| {
                let (mut socket, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    socket.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                socket.write_all(answer.as_bytes()).unwrap();
                String::from_utf8(request).unwrap()
            };
            answers.into_iter().map(answer).collect()
        });
        (address, asked)
    }
}
