//! HTTP to an endpoint of the platform: one request in clear, a bounded answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use zeroize::Zeroizing;

use super::KeysError;

/// For each step. What SDKs wait, too.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer is about 2 KiB, most of it the session token.
const MOST_BYTES: u64 = 64 * 1024;

/// HTTP/1.0, so that the answer is neither chunked nor followed by another.
pub fn ask(
    address: SocketAddr,
    host: &str,
    method: &str,
    path: &str,
    field: Option<(&str, &str)>,
) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    let told = |error: std::io::Error| KeysError::Endpoint(format!("{address}: {error}"));
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
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(told)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    socket.set_write_timeout(Some(PATIENCE)).map_err(told)?;
    socket.write_all(request.as_bytes()).map_err(told)?;
    let mut answer = Zeroizing::new(Vec::with_capacity(8 * 1024));
    socket.take(MOST_BYTES).read_to_end(&mut answer).map_err(told)?;
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut slots);
    match head.parse(&answer) {
        Ok(httparse::Status::Complete(end)) if head.code == Some(200) => {
            Ok(Zeroizing::new(answer[end..].to_vec()))
        }
        Ok(httparse::Status::Complete(_)) => {
            Err(KeysError::Endpoint(format!("{address}: answered {}", head.code.unwrap_or_default())))
        }
        _ => Err(KeysError::Endpoint(format!("{address}: its answer is not HTTP"))),
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
