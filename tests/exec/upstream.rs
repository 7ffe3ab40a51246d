//! What stood in the environment before: its proxy is the way upstream and there is no other; its roots stay believed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::tls::Ca;
use crate::{World, curl, run};

/// A proxy that says the same to every CONNECT, and after a 200 relays to one address.
#[derive(Clone)]
struct Corporate {
    heads: Arc<Mutex<Vec<String>>>,
    answer: &'static str,
    to: SocketAddr,
}

const OPEN: &str = "HTTP/1.1 200 OK\r\nVia: corporate\r\n\r\n";

impl Corporate {
    /// `tls`: as whom it speaks TLS itself.
    async fn start(answer: &'static str, to: SocketAddr, tls: Option<(&Ca, &str)>) -> (Self, SocketAddr) {
        let this = Self { heads: Arc::default(), answer, to };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tls.map(|(ca, name)| ca.acceptor(&[name]));
        let served = this.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (served, acceptor) = (served.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(socket).await {
                                served.serve(stream).await;
                            }
                        }
                        None => served.serve(socket).await,
                    }
                });
            }
        });
        (this, address)
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, mut socket: S) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = socket.read_u8().await else { return };
            head.push(byte);
        }
        self.heads.lock().unwrap().push(String::from_utf8(head).unwrap());
        socket.write_all(self.answer.as_bytes()).await.ok();
        socket.flush().await.ok();
        if self.answer.contains(" 200 ") {
            let mut origin = TcpStream::connect(self.to).await.unwrap();
            tokio::io::copy_bidirectional(&mut socket, &mut origin).await.ok();
        }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

const TRUST: [&str; 2] = ["--upstream-ca", "upstream.pem"];

#[tokio::test]
async fn the_environments_proxy_is_the_way_upstream_with_its_credentials() {
    let world = World::new().await;
    let (proxy, address) = Corporate::start(OPEN, world.address, None).await;
    let url = format!("http://us%40er:p%3Aw@{address}");
    for (name, other) in
        [("HTTPS_PROXY", "HTTP_PROXY"), ("https_proxy", "http_proxy"), ("ALL_PROXY", "HTTP_PROXY")]
    {
        let variables = [(name, &*url), (other, "http://127.0.0.1:9")];
        let seen = run(world.bare().args(TRUST).envs(variables), &curl(&["https://app.test/x"])).await;
        assert_eq!(seen.out, "ok 200", "{name}: {seen:?}");
        assert!(
            seen.said.contains(&format!("reached through the upstream proxy http://{address}")),
            "{seen:?}"
        );
        assert!(!seen.said.contains("p%3Aw") && !seen.said.contains("p:w"), "{seen:?}");
    }
    let heads = proxy.heads();
    assert_eq!(heads.len(), 3);
    for head in heads {
        assert!(head.starts_with("CONNECT app.test:443 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("Proxy-Authorization: Basic dXNAZXI6cDp3\r\n"), "{head}");
    }
    // The origin never hears of it.
    for request in world.origin.requests() {
        assert!(request.values("proxy-authorization").is_empty(), "{request:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_fails_is_not_gone_around() {
    let world = World::new().await;
    for answer in [
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nhush",
        "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: https://app.test/\r\n\r\n",
        "SSH-2.0-x\r\n\r\n",
        "",
    ] {
        let (proxy, address) = Corporate::start(answer, world.address, None).await;
        let url = format!("http://{address}");
        // The name's own address would be the origin: that no rule of ours dials it is the point.
        let seen =
            run(world.bare().args(TRUST).env("HTTPS_PROXY", &url), &curl(&["https://app.test/x"])).await;
        assert!(seen.out.contains("[upstream.proxy]") && seen.out.ends_with(" 502"), "{answer:?}: {seen:?}");
        assert!(!seen.out.contains("hush"), "{seen:?}");
        assert_eq!(proxy.heads().len(), 1);
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let seen = run(
        world.bare().args(TRUST).env("HTTPS_PROXY", format!("http://{gone}")),
        &curl(&["https://app.test/x"]),
    )
    .await;
    assert!(seen.out.contains("[upstream.proxy]"), "{seen:?}");
    let socks = run(world.bare().env("ALL_PROXY", "socks5://u:hush@127.0.0.1:1"), &["true"]).await;
    assert!(socks.code == Some(125) && socks.said.contains("ALL_PROXY"), "{socks:?}");
    assert!(!socks.said.contains("hush"), "{socks:?}");
    assert_eq!(world.origin.connections(), 0);
}

#[tokio::test]
async fn no_proxy_says_what_goes_past_the_outer_proxy_but_not_past_us() {
    let world = World::new().await;
    let (proxy, address) = Corporate::start(OPEN, world.address, None).await;
    let variables =
        [("HTTPS_PROXY", format!("http://{address}")), ("NO_PROXY", ".invalid,other.test".to_owned())];
    let asked = |url: &'static str| {
        let variables = variables.clone();
        let world = &world;
        async move { run(world.bare().args(TRUST).envs(variables), &curl(&[url])).await }
    };
    // Straight, and there is no such name.
    let direct = asked("https://app.invalid/").await;
    assert!(direct.out.contains("[upstream.resolve]") && direct.out.ends_with(" 502"), "{direct:?}");
    assert!(proxy.heads().is_empty());
    assert_eq!(asked("https://app.test/").await.out, "ok 200");
    assert_eq!(proxy.heads().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_speaks_tls_is_checked_as_any_origin_is() {
    let world = World::new().await;
    let (proxy, address) = Corporate::start(OPEN, world.address, Some((&world.ca, "localhost"))).await;
    let url = format!("https://u:p@localhost:{}", address.port());
    let bundle = [("HTTPS_PROXY", &*url), ("SSL_CERT_FILE", "upstream.pem")];
    let seen = run(world.bare().envs(bundle), &curl(&["https://app.test/x"])).await;
    assert_eq!(seen.out, "ok 200", "{seen:?}");
    assert_eq!(proxy.heads().len(), 1);
    let refused = run(world.bare().env("HTTPS_PROXY", &url), &curl(&["https://app.test/x"])).await;
    assert!(refused.out.contains("[upstream.proxy]"), "{refused:?}");
    assert_eq!(proxy.heads().len(), 1, "its credentials were not told to a stranger");
}

#[tokio::test]
async fn roots_that_the_environment_names_stay_believed_here_and_upstream() {
    let world = World::new().await;
    let to = format!("*:443={}", world.address);
    let other = Ca::new().pem();
    std::fs::write(world.home.join("other.pem"), &other).unwrap();
    for name in
        ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"]
    {
        let extra = if name == "REQUESTS_CA_BUNDLE" { "CURL_CA_BUNDLE" } else { "REQUESTS_CA_BUNDLE" };
        let variables = [(name, "upstream.pem"), (extra, "other.pem")];
        let script = "curl -sS --max-time 20 https://app.test/; cat $AWS_CA_BUNDLE";
        let seen = run(world.bare().args(["--connect-to", &to]).envs(variables), &["sh", "-c", script]).await;
        assert!(seen.out.starts_with("ok"), "{name}: {seen:?}");
        // Neither of the two is lost, whichever variable the program reads.
        for pem in [&other, &world.ca.pem()] {
            let line = pem.lines().nth(3).unwrap();
            assert!(seen.out.contains(line), "{name}");
        }
    }
    // AWS's own tools have a setting for it.
    std::fs::create_dir_all(world.home.join(".aws")).unwrap();
    std::fs::write(world.home.join(".aws/config"), "[profile p]\nca_bundle = ~/upstream.pem\n").unwrap();
    let mut command = world.bare();
    command.args(["--connect-to", &to]).env("AWS_PROFILE", "p");
    assert_eq!(run(&mut command, &curl(&["https://app.test/"])).await.out, "ok 200");
    // The system's own store, wherever the machine keeps it.
    std::fs::create_dir_all(world.home.join("certs")).unwrap();
    std::fs::write(world.home.join("certs/12345678.0"), world.ca.pem()).unwrap();
    let mut command = world.bare();
    command.args(["--connect-to", &to]).env("SSL_CERT_DIR", "certs");
    assert_eq!(run(&mut command, &curl(&["https://app.test/"])).await.out, "ok 200");
    let only = [
        ("EXEAT_UPSTREAM_ROOTS", "none"),
        ("SSL_CERT_FILE", "upstream.pem"),
        ("EXEAT_UPSTREAM_CA", "other.pem"),
    ];
    let none = run(world.bare().args(["--connect-to", &to]).envs(only), &curl(&["https://app.test/"])).await;
    assert!(none.out.contains("[upstream.certificate]"), "{none:?}");
    let unnamed = run(world.bare().args(["--connect-to", &to]), &curl(&["https://app.test/"])).await;
    assert!(unnamed.out.contains("[upstream.certificate]"), "{unnamed:?}");
    let missing = [("AWS_CA_BUNDLE", "missing.pem")];
    let told = run(world.bare().envs(missing), &["true"]).await;
    assert!(told.code == Some(0) && told.said.contains("missing.pem"), "{told:?}");
}

#[tokio::test]
async fn a_nested_exec_goes_through_the_outer_one() {
    let world = World::new().await;
    let inner = [env!("CARGO_BIN_EXE_exeat"), "exec", "--"].into_iter().chain(curl(&["https://app.test/"]));
    let seen = run(&mut world.exec(), &inner.collect::<Vec<_>>()).await;
    assert_eq!((seen.code, seen.out.as_str()), (Some(0), "ok 200"), "{seen:?}");
    assert!(seen.said.contains("reached through the outer exeat exec at"), "{seen:?}");
    assert_eq!(seen.said.matches("REPORT     1  GET app.test").count(), 2, "both saw it: {seen:?}");
    assert_eq!(world.origin.requests().len(), 1);
    assert_eq!(world.folders(), 0);
    // A proxy that is set for exeat itself is no way around the outer run.
    let (corporate, address) = Corporate::start(OPEN, world.address, None).await;
    let mut outer = world.exec();
    outer
        .args(["--upstream-proxy", &format!("http://{address}")])
        .env("EXEAT_UPSTREAM_PROXY", format!("http://{address}"));
    let inner = [env!("CARGO_BIN_EXE_exeat"), "exec", "--"].into_iter().chain(curl(&["https://app.test/"]));
    let seen = run(&mut outer, &inner.collect::<Vec<_>>()).await;
    assert_eq!(seen.said.matches("REPORT     1  GET app.test").count(), 2, "{seen:?}");
    // The outer run was told to dial the origin itself.
    assert!(corporate.heads().is_empty());
    // The outer policy holds, whatever the inner one says.
    let inner = [env!("CARGO_BIN_EXE_exeat"), "exec", "--"].into_iter().chain(curl(&["https://other.test/"]));
    let refused = run(world.exec().args(["--policy", "policy.yaml"]), &inner.collect::<Vec<_>>()).await;
    assert!(refused.out.contains("[policy.no_match]"), "{refused:?}");
}

#[tokio::test]
async fn run_takes_an_upstream_proxy_from_its_flag_alone() {
    let world = World::new().await;
    let (proxy, address) = Corporate::start(OPEN, world.address, None).await;
    for (flag, variable, reached) in [(true, "X", true), (false, "HTTPS_PROXY", false)] {
        let before = proxy.heads().len();
        let url = format!("http://{address}");
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_exeat"));
        command.env_clear().env(variable, &url).current_dir(&world.home).kill_on_drop(true);
        command.args(["run", "--listen", "127.0.0.1:0", "--policy", "policy.yaml", "--audit", "a.jsonl"]);
        command.args(["--ca-out", "ca.pem"]).args(TRUST).stderr(std::process::Stdio::piped());
        if flag {
            command.args(["--upstream-proxy", &url]);
        }
        let mut started = command.spawn().unwrap();
        let mut said = String::new();
        let mut err = started.stderr.take().unwrap();
        while !said.contains("known keys") {
            let mut piece = [0; 512];
            let n = err.read(&mut piece).await.unwrap();
            assert!(n > 0, "{said}");
            said.push_str(&String::from_utf8_lossy(&piece[..n]));
        }
        let listens = said.split("listening on ").nth(1).unwrap().split(' ').next().unwrap();
        let curl = curl(&["--cacert", "ca.pem", "https://app.test/"]);
        let mut client = tokio::process::Command::new(curl[0]);
        client.args(&curl[1..]).env_clear().env("HTTPS_PROXY", format!("http://{listens}"));
        let output = client.current_dir(&world.home).output().await.unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(out == "ok 200", reached, "{out} {output:?}");
        assert_eq!(proxy.heads().len() > before, reached);
    }
}
