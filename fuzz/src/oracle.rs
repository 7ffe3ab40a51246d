//! hyper as a server over bytes in memory: the second opinion on what a message says.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;

/// A request as hyper read it.
#[derive(Debug)]
pub struct Heard {
    pub method: String,
    pub target: String,
    pub fields: HeaderMap,
    /// `None` where the body broke its framing.
    pub body: Option<Vec<u8>>,
}

/// The requests that hyper reads off `wire`, until it refuses something or the bytes end.
pub fn requests(wire: &[u8]) -> Vec<Heard> {
    let heard = Rc::new(RefCell::new(Vec::new()));
    let keep = Rc::clone(&heard);
    let service = service_fn(move |request: Request<Incoming>| {
        let keep = Rc::clone(&keep);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.ok().map(|whole| whole.to_bytes().to_vec());
            keep.borrow_mut().push(Heard {
                method: head.method.to_string(),
                target: head.uri.to_string(),
                fields: head.headers,
                body,
            });
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let io = Wire { left: wire.to_vec(), at: 0 };
    let serving = http1::Builder::new().half_close(true).max_headers(256).serve_connection(io, service);
    let mut serving = pin!(serving);
    let mut cx = Context::from_waker(Waker::noop());
    // Memory never makes it wait: what is pending after many polls waits for nothing that could come.
    for _ in 0..64 {
        if serving.as_mut().poll(&mut cx).is_ready() {
            break;
        }
    }
    heard.take()
}

struct Wire {
    left: Vec<u8>,
    at: usize,
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let rest = &this.left[this.at..];
        let take = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..take]);
        this.at += take;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
