//! Secrets planted wherever a request, an answer, a policy or a setting has room for one come out nowhere that we write.
//!
//! Names are told by design and are no place for a secret: hosts, keys of objects, user agents, ids of statements.

use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::support::aws::{self, S3};
use crate::support::program::Program;
use crate::support::proxy::{folder, read_head};
use crate::support::sign::{Body, CREDENTIALS, KEY_ID, SECRET, s3_head};
use crate::support::tls::{self, Ca};

const JSON_HOST: &str = "dynamodb.us-east-1.amazonaws.com";

/// Secrets by the place they were planted in. Each is a text of its own.
#[derive(Default)]
struct Planted(Vec<(&'static str, String)>);

impl Planted {
    fn plant(&mut self, place: &'static str) -> String {
        // Letters alone: no rule about forms finds it.
        let letters: String =
            format!("{:03}", self.0.len()).bytes().map(|b| char::from(b'q' + b % 10)).collect();
        let secret = format!("planted{letters}planted");
        self.0.push((place, secret.clone()));
        secret
    }

    /// One that has its own form.
    fn add(&mut self, place: &'static str, secret: String) {
        self.0.push((place, secret));
    }

    fn found_in(&self, output: &str, text: &str) -> Vec<String> {
        let found = self.0.iter().filter(|(_, secret)| text.contains(secret.as_str()));
        found.map(|(place, _)| format!("{place}, in {output}")).collect()
    }
}

/// Answers every request with what it was given, and keeps what it got.
async fn serve(listener: TcpListener, ca: Ca, answer: String, got: Arc<Mutex<Vec<u8>>>) {
    let acceptor = ca.acceptor(&[S3, JSON_HOST, "app.test"]);
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (acceptor, answer, got) = (acceptor.clone(), answer.clone(), Arc::clone(&got));
        tokio::spawn(async move {
            let Ok(mut socket) = acceptor.accept(socket).await else { return };
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            loop {
                let Ok(n @ 1..) = socket.read(&mut piece).await else { return };
                request.extend_from_slice(&piece[..n]);
                let whole = super::support::origin::messages(&request, false, |_, _| false);
                if whole.is_ok_and(|(all, _)| !all.is_empty()) {
                    break;
                }
            }
            let broken = request.starts_with(b"GET /broken");
            got.lock().unwrap().extend_from_slice(&request);
            let answer = if broken { answer.replace("HTTP/1.1 200", "HTTP/9 x") } else { answer };
            let _ = socket.write_all(answer.as_bytes()).await;
            let _ = socket.shutdown().await;
        });
    }
}

/// Sends the bytes inside an intercepted connection and reads the answer to its end.
async fn send(address: &str, ca: &str, host: &str, connect_field: &str, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n{connect_field}\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let answer = read_head(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut client = tls::connect(socket, host, ca).await.unwrap();
    aws::ask(&mut client, request.as_bytes()).await
}

async fn plain(address: &str, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let _ = socket.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}

fn json_call(body: &str, token: &str) -> String {
    // Signed with a key that nobody knows: what it says is recorded all the same.
    let credential = format!("{KEY_ID}/20260101/us-east-1/dynamodb/aws4_request");
    format!(
        "POST / HTTP/1.1\r\nHost: {JSON_HOST}\r\nX-Amz-Date: 20260101T000000Z\r\nX-Amz-Security-Token: {token}\r\n\
         X-Amz-Target: DynamoDB_20120810.PutItem\r\nContent-Type: application/x-amz-json-1.0\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date;x-amz-security-token;x-amz-target, Signature={}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        "0123456789abcdef".repeat(4),
        body.len()
    )
}

const RECORDS: &str = "records:
  level: all
  include_data: true
  data:
    app.test:POST: [requestParameters.shown, requestParameters.password, requestParameters.note, requestParameters.mail, requestParameters.jwt, requestParameters.pem, requestParameters.dsn, responseElements.ok, responseElements.accessToken]
    dynamodb:PutItem: [requestParameters.TableName, requestParameters.Item.password.S]
  hide_paths: [note]
  hide_patterns: ['*@example.com']
";

#[tokio::test]
async fn forty_planted_secrets_come_out_nowhere() {
    for (name, records) in [("by default", ""), ("with data recorded", RECORDS)] {
        let mut planted = Planted::default();
        let dir = folder("secrets");
        let file = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };

        // An answer that is full of them.
        let answer_body = format!(
            "{{\"ok\":\"fine\",\"accessToken\":\"{}\",\"other\":\"{}\"}}",
            planted.plant("an answer's token member"),
            planted.plant("an answer's body")
        );
        let answer = format!(
            "HTTP/1.1 200 {}\r\nSet-Cookie: s={}\r\nx-amz-session: {}\r\nLocation: https://a.test/?k={}\r\nContent-Length: {}\r\n\r\n{answer_body}",
            planted.plant("an answer's reason phrase"),
            planted.plant("an answer's cookie"),
            planted.plant("an answer's header"),
            planted.plant("an answer's location"),
            answer_body.len()
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = listener.local_addr().unwrap();
        let upstream = Ca::new();
        let upstream_pem = upstream.pem();
        let got = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(serve(listener, upstream, answer, Arc::clone(&got)));

        // Settings, keys, environment, policy.
        planted.add("a secret access key", SECRET.to_owned());
        let token = planted.plant("a session token of a file");
        let spare = planted.plant("another profile's secret");
        let credentials = format!(
            "{CREDENTIALS}[other]\naws_access_key_id = AKIARZPUZDIKEXAMPLE3\naws_secret_access_key = {spare}\naws_session_token = {token}\n"
        );
        let proxy_password = planted.plant("an upstream proxy's password in the settings");
        let variable_password = planted.plant("a password in an unread variable");
        let config = format!(
            "upstream_proxy: 'http://user:{proxy_password}@proxy.test:3128'\nca_dir: {}/ca\n{records}",
            dir.display()
        );
        let policy = format!(
            "version: 1\n# {}\nstatements:\n  - {{id: ours, effect: allow, action: 's3:*', resource: '*'}}\n  \
             - {{id: put, effect: allow, action: 'dynamodb:PutItem', resource: '*'}}\n  \
             - {{id: app, effect: allow, http: {{host: app.test}}, when: {{source.address: ['127.0.0.1']}}}}\n  \
             - {{id: shut, effect: deny, action: 's3:PutObject', resource: '*', when: {{header.x-app: {}}}}}\n",
            planted.plant("a policy's comment"),
            planted.plant("a policy's condition"),
        );
        let socket = dir.join("admin.sock");
        let audit = dir.join("audit.jsonl");
        let config = file("exeat.yaml", &config);
        let credentials = file("credentials", &credentials);
        let policy = file("policy.yaml", &policy);
        let upstream_pem = file("upstream.pem", &upstream_pem);
        let exeat = |verb: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
            command.env_clear().args(verb);
            command.env("EXEAT_LOG", "trace").env("EXEAT_PASSWRD", &variable_password);
            command.env("AWS_SECRET_ACCESS_KEY", SECRET).env("AWS_ACCESS_KEY_ID", KEY_ID);
            command
        };
        let settings = |command: &mut Command| {
            command.arg("--policy").arg(&policy).arg("--credentials").arg(&credentials);
            command.arg("--config").arg(&config).arg("--audit").arg(&audit);
            command.arg("--upstream-ca").arg(&upstream_pem).arg("--admin-socket").arg(&socket);
            command.arg("--ca-out").arg(dir.join("ca.pem")).arg("--listen").arg("127.0.0.1:0");
            command.arg("--connect-to").arg(format!("*:443={origin}"));
        };
        let mut run = exeat(&["run"]);
        settings(&mut run);
        let (mut program, [address]) = Program::start(&mut run, ["listening on "]);
        let ca = std::fs::read_to_string(dir.join("ca.pem")).unwrap();
        for entry in std::fs::read_dir(dir.join("ca")).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let key = text.split("PRIVATE KEY-----").nth(1).map(|body| body.trim().lines().next().unwrap());
            if let Some(key) = key {
                planted.add("the CA's key", key.to_owned());
            }
        }

        // Requests: a third party's, by every way in.
        let mut answers = Vec::new();
        let connect_field = format!(
            "Proxy-Authorization: Basic {}\r\nX-Secret: {}\r\n",
            {
                let pair = STANDARD.encode(format!("user:{}", planted.plant("a password of CONNECT")));
                planted.add("a password of CONNECT, encoded", pair.clone());
                pair
            },
            planted.plant("a header of CONNECT")
        );
        let bearer = planted.plant("a bearer token");
        let body = format!(
            "{{\"shown\":\"fine\",\"hushed\":\"{}\",\"password\":\"{}\",\"note\":\"{}\",\"mail\":\"{}@example.com\",\"jwt\":\"eyJhbGciOi.eyJzdWIiOi.{}\",\"pem\":\"-----BEGIN EC PRIVATE KEY-----{}\",\"dsn\":\"postgres://u:{}@db/x\"}}",
            planted.plant("a body's member that nobody allowed"),
            planted.plant("a body's password"),
            planted.plant("a body's member that is hidden by path"),
            planted.plant("a body's value that is hidden by pattern"),
            planted.plant("a body's web token"),
            planted.plant("a body's private key"),
            planted.plant("a body's connection string"),
        );
        let fields = format!(
            "Authorization: Bearer {bearer}\r\nCookie: s={}\r\nX-Api-Key: {}\r\nReferer: https://a.test/?t={}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            planted.plant("a cookie"),
            planted.plant("an API key"),
            planted.plant("a referer"),
            body.len()
        );
        let query = format!("/v1?token={}", planted.plant("a third party's query"));
        let post = format!("POST {query} HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n{body}");
        answers.push(send(&address, &ca, "app.test", &connect_field, &post).await);
        assert!(
            answers[0].starts_with("HTTP/1.1 200 ")
                || answers[0].contains("sigv4")
                || answers[0].starts_with("HTTP/1.1 4"),
            "{answers:?}"
        );
        let no_bearer = post.replace(&format!("Authorization: Bearer {bearer}\r\n"), "");
        answers.push(send(&address, &ca, "app.test", "", &no_bearer).await);
        answers.push(
            send(&address, &ca, "app.test", "", "GET /broken HTTP/1.1\r\nHost: app.test\r\n\r\n").await,
        );
        if records.is_empty() {
            let hook = format!(
                "GET /hooks/{} HTTP/1.1\r\nHost: app.test\r\n\r\n",
                planted.plant("a web hook's path")
            );
            answers.push(send(&address, &ca, "app.test", "", &hook).await);
        }
        // A name that is refused, a head that is none, and what is no tunnel at all.
        for (place, request) in [
            (
                "userinfo of an absolute target",
                "GET http://user:{}@app.test/ HTTP/1.1\r\nHost: app.test\r\n\r\n",
            ),
            ("userinfo of a CONNECT target", "CONNECT user:{}@app.test:443 HTTP/1.1\r\n\r\n"),
            (
                "the query of an absolute target",
                "GET http://app.test/?k={} HTTP/1.1\r\nHost: app.test\r\n\r\n",
            ),
            ("a head that is malformed", "GET http://app.test/ HTTP/1.1\r\nCookie {}\r\n\r\n"),
        ] {
            plain(&address, &request.replace("{}", &planted.plant(place))).await;
        }
        let smuggled =
            format!("GET / HTTP/1.1\r\nHost: app.test\r\nX : {}\r\n\r\n", planted.plant("a malformed field"));
        answers.push(send(&address, &ca, "app.test", "", &smuggled).await);

        // AWS calls: signed, presigned, unsigned, with a form, with a body that has to be read.
        let upload = planted.plant("an upload's body");
        let kms = planted.plant("a signed header");
        let put = s3_head(
            "PUT",
            S3,
            "/bucket/key",
            &[("x-amz-meta-app", &kms), ("x-app", "other")],
            &Body::Bytes(upload.as_bytes()),
            Some(upload.len()),
        );
        answers.push(send(&address, &ca, S3, "", &format!("{put}{upload}")).await);
        let forged = put.replace("other", "forged");
        answers.push(send(&address, &ca, S3, "", &format!("{forged}{upload}")).await);
        let signature = put.split("Signature=").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
        planted.add("a signature", signature);
        let presigned = format!(
            "GET /bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY_ID}%2F20260101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Security-Token={}&X-Amz-Signature={} HTTP/1.1\r\nHost: {S3}\r\n\r\n",
            planted.plant("a presigned token"),
            planted.plant("a presigned signature"),
        );
        answers.push(send(&address, &ca, S3, "", &presigned).await);
        let old = format!(
            "GET /bucket/key?Signature={}&AWSAccessKeyId={KEY_ID}&Expires=1 HTTP/1.1\r\nHost: {S3}\r\n\r\n",
            planted.plant("an old signature")
        );
        answers.push(send(&address, &ca, S3, "", &old).await);
        let form = format!(
            "--b\r\nContent-Disposition: form-data; name=\"policy\"\r\n\r\n{}\r\n--b\r\nContent-Disposition: form-data; name=\"x-amz-signature\"\r\n\r\n{}\r\n--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n{}\r\n--b--\r\n",
            planted.plant("a form's policy"),
            planted.plant("a form's signature"),
            planted.plant("a form's file"),
        );
        let form = format!(
            "POST /bucket HTTP/1.1\r\nHost: {S3}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        answers.push(send(&address, &ca, S3, "", &form).await);
        let item = format!(
            "{{\"TableName\":\"orders\",\"Item\":{{\"id\":{{\"S\":\"{}\"}},\"password\":{{\"S\":\"{}\"}}}}}}",
            planted.plant("an item's attribute"),
            planted.plant("an item's password"),
        );
        answers.push(
            send(&address, &ca, JSON_HOST, "", &json_call(&item, &planted.plant("a session token"))).await,
        );

        assert!(planted.0.len() >= 40, "{name}: {} are planted", planted.0.len());

        // What we write: the lines, the log at its loudest, the operator's doors, and what verbs print.
        let text = aws::until("the audit lines", || {
            let text = std::fs::read_to_string(&audit).ok()?;
            (text.matches("\"eventVersion\"").count() >= answers.len() + 4).then_some(text)
        })
        .await;
        let mut outputs = vec![("the audit lines", text.clone())];
        let flows: Vec<&str> =
            text.split("\"flow\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let mut paths = vec!["/metrics".to_owned(), "/ready".to_owned()];
        paths.extend(flows.iter().map(|flow| format!("/flows/{flow}")));
        let mut told = String::new();
        for path in paths {
            let mut admin = UnixStream::connect(&socket).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            admin.write_all(request.as_bytes()).await.unwrap();
            admin.read_to_string(&mut told).await.unwrap();
        }
        assert!(told.contains("exeat_requests") && told.contains("eventVersion"), "{told}");
        outputs.push(("the operator's socket", told));
        let mut said = String::new();
        let mut say = |command: &mut Command| {
            let out = command.output().unwrap();
            said.push_str(&String::from_utf8_lossy(&out.stdout));
            said.push_str(&String::from_utf8_lossy(&out.stderr));
        };
        let mut shown = exeat(&["config", "show", "--origin"]);
        settings(&mut shown);
        say(&mut shown);
        for flow in &flows {
            say(exeat(&["explain", flow, "--audit"]).arg(&audit));
        }
        say(exeat(&["audit", "verify"]).arg(&audit));
        say(exeat(&["check", "--policy"]).arg(&policy));
        // Settings that are wrong: the message names the place.
        for (place, wrong) in [
            ("a bad proxy URL", "upstream_proxy: 'ftp://u:{}@h:1'\n"),
            ("a bad proxy URL without a port", "upstream_proxy: 'http://u:{}@'\n"),
        ] {
            let wrong = file("wrong.yaml", &wrong.replace("{}", &planted.plant(place)));
            say(exeat(&["config", "show", "--config"]).arg(wrong));
        }
        let half = file(
            "half",
            &format!(
                "[default]\naws_access_key_id = {KEY_ID}\n{}\n",
                planted.plant("a bad credentials line")
            ),
        );
        say(exeat(&["run", "--listen", "127.0.0.1:0", "--credentials"]).arg(half));
        assert!(
            said.contains("proxy.test") && said.contains("whole") && said.contains("EXEAT_PASSWRD"),
            "{said}"
        );
        outputs.push(("what verbs print", said));
        program.signal("-TERM");
        let (_, log) = program.wait();
        assert!(log.contains("EXEAT_PASSWRD"), "{log}");
        outputs.push(("the log", log));
        // The workload is told what the origin said, and of ours only sentences.
        let refused: Vec<String> =
            answers.iter().filter(|answer| answer.contains("exeat-verdict")).cloned().collect();
        assert!(refused.len() >= 6, "{answers:#?}");
        outputs.push(("refusals", refused.concat()));

        let found: Vec<String> =
            outputs.iter().flat_map(|(output, text)| planted.found_in(output, text)).collect();
        assert!(found.is_empty(), "{name}: {found:#?}");
        // They were there: what was to reach the origin did, and what may be shown is.
        let got = String::from_utf8_lossy(&got.lock().unwrap()).into_owned();
        assert!(got.contains(&upload) && got.contains("\"hushed\""), "{name}: {answers:#?}");
        assert_eq!(
            text.contains("\"shown\":\"fine\"") && text.contains("\"ok\":\"fine\""),
            !records.is_empty(),
            "{text}"
        );
        assert_eq!(text.contains("HIDDEN_DUE_TO_SECURITY_REASONS"), !records.is_empty());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
