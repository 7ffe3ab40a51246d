use std::pin::pin;

use http_body_util::Full;

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// The server's side of a stream; `given_up`: its client has reset it, which was seen.
async fn stream(given_up: bool) -> Stream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (io, _) = Watched::new(near);
    let (served, asked) = tokio::join!(shake(io, SOON), h2::client::handshake(far));
    let (mut served, (mut asks, driver)) = (served.unwrap(), asked.unwrap());
    tokio::spawn(driver);
    let request = Request::post("https://app.test/a").body(()).unwrap();
    let (answer, mut send) = asks.send_request(request, false).unwrap();
    let (request, respond) = served.accept().await.expect("a stream").unwrap();
    tokio::spawn(async move { while served.accept().await.is_some() {} });
    let (head, _, mut stream) = read(request, respond, None, SOON);
    head.unwrap();
    if given_up {
        send.send_reset(Reason::CANCEL);
        let reset = stream.unless_reset(pin!(std::future::pending::<()>())).await;
        assert_eq!(reset, Err(Some(Reason::CANCEL)));
    }
    // The client stays.
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop((asks, answer, send));
    });
    stream
}

#[tokio::test]
async fn a_head_that_finds_its_stream_reset_has_told_nothing() {
    let head = ResponseHead::parse("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".into(), "POST").unwrap();
    for given_up in [false, true] {
        let mut stream = stream(given_up).await;
        let passed = stream.pass(&head, None, &mut Full::new(Bytes::from_static(b"ok"))).await;
        assert_eq!(matches!(passed, Err(AnswerError::Client(_))), given_up);
        assert_eq!(stream.has_begun(), !given_up);
    }
}
