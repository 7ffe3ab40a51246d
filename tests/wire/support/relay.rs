//! The bare codec as a relay over plain TCP: what `proxy/exchange.rs` does, without asking anybody.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exeat::engine::request::ResponseHead;
use exeat::proxy::http1::{client, server};
use tokio::net::{TcpListener, TcpStream};

/// `hasty` for cases that end by a time-out of heads; no other may meet one, however busy the machine.
fn patience(hasty: bool) -> (server::Patience, client::Patience) {
    let long = Duration::from_secs(120);
    let head = if hasty { Duration::from_secs(3) } else { long };
    (server::Patience { head, idle: long, body: long }, client::Patience { head, body: long, write: long })
}

type Pool = Arc<Mutex<Vec<client::Connection<TcpStream>>>>;

/// Relays every connection of `listener` to `origin`, sharing idle connections.
pub async fn run(listener: TcpListener, origin: SocketAddr, hasty: bool) {
    let pool = Pool::default();
    loop {
        let (socket, _) = listener.accept().await.expect("accept");
        socket.set_nodelay(true).ok();
        tokio::spawn(serve(socket, origin, Arc::clone(&pool), hasty));
    }
}

async fn serve(socket: TcpStream, origin: SocketAddr, pool: Pool, hasty: bool) {
    let (patience, upstream) = patience(hasty);
    let mut client = server::Connection::new(socket, patience);
    loop {
        let head = match client.next().await.and_then(|head| client.read(head)) {
            Ok(head) => head,
            Err(server::NoRequest::Closed(_)) => return,
            Err(server::NoRequest::Malformed(_)) => {
                client
                    .answer_whole(
                        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    )
                    .await
                    .ok();
                return client.close().await;
            }
            Err(server::NoRequest::Slow) => {
                client
                    .answer_whole(b"HTTP/1.1 408 Slow\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .await
                    .ok();
                return client.close().await;
            }
        };
        if head.authority().to_string() != "app.test:443" {
            client
                .answer_whole(b"HTTP/1.1 403 Other\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await
                .ok();
            return client.close().await;
        }
        let body = client.body(head.framing());
        let exchange = exchange(&head, body, origin, &pool, upstream);
        let Some(answer) = client.unless_gone(exchange).await else { return };
        let close = match answer {
            Ok((response, mut answer)) => {
                let close = head.close() || answer.is_early();
                let passed = server::Passed { head: &response, to: head.version(), close };
                if client.pass(passed, &mut answer).await.is_err() {
                    return client.show_break().await;
                }
                if client.flush().await.is_err() {
                    return;
                }
                close
            }
            Err(client::ExchangeError::Body(_)) => return,
            Err(error) => {
                let status = match error {
                    client::ExchangeError::TimedOut(_) => "504",
                    _ => "502",
                };
                let text = format!("HTTP/1.1 {status} Bad\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                client.answer_whole(text.as_bytes()).await.ok();
                true
            }
        };
        if close || !client.is_clean() {
            return client.close().await;
        }
    }
}

type Answer<B> = Box<client::Answer<TcpStream, B, Home>>;
type Home = Box<dyn FnOnce(Box<client::Connection<TcpStream>>) + Send>;

async fn exchange<B: exeat::proxy::body::Inbound>(
    head: &exeat::engine::request::RequestHead,
    mut body: B,
    origin: SocketAddr,
    pool: &Pool,
    patience: client::Patience,
) -> Result<(ResponseHead, Answer<B>), client::ExchangeError> {
    let pooled = pool.lock().unwrap().pop().and_then(|mut conn| conn.is_quiet().then_some(conn));
    let conn = match pooled {
        Some(conn) => conn,
        None => {
            let socket = TcpStream::connect(origin).await.map_err(client::ExchangeError::Lost)?;
            socket.set_nodelay(true).ok();
            let mut conn = client::Connection::new(socket);
            tokio::task::yield_now().await;
            if !conn.is_quiet() {
                return Err(client::ExchangeError::Closed { unanswered: true });
            }
            conn
        }
    };
    if head.expects_continue() {
        body.interim(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok();
    }
    let pool = Arc::clone(pool);
    let give_back: Home = Box::new(move |conn| pool.lock().unwrap().push(*conn));
    client::send(Box::new(conn), head, body, patience, give_back).await.map_err(|failed| failed.error)
}
