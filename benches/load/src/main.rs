//! Sends a counted number of signed GETs through a proxy, so that somebody else can count what they cost it.
//!
//! `load PROXY HOST PATH CA KEY_ID SECRET [h2]`: opens one connection (CONNECT HOST:443, TLS 1.3 trusting CA, one GET),
//! prints `ready`, then answers each line of stdin with one line of JSON, `{"n":…,"errors":…,"first_error":…}`:
//! `req N` sends N requests on that connection, `conn N` opens N new connections with one request each.

mod client;
mod request;

use std::io::BufRead;
use std::time::Duration;

use client::{Client, Route};
use request::Request;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A proxy under valgrind is 50 times slower than it is; one that hangs must still end the run.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of one line of stdin.
#[derive(Default)]
struct Tally {
    n: usize,
    errors: usize,
    first_error: Option<String>,
}

impl Tally {
    fn count(&mut self, outcome: Outcome<()>) -> bool {
        self.n += 1;
        let Err(error) = outcome else { return true };
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
        false
    }
}

async fn within<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| format!("no answer in {PATIENCE:?}"))?
}

async fn run(route: &Route, requests: &[Request]) -> Outcome<()> {
    let mut turn = requests.iter().cycle();
    let mut next = || turn.next().expect("a cycle of 64 requests has no end");
    let mut kept = within(Client::open(route)).await?;
    within(kept.get(next())).await?;
    println!("ready");

    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (what, n) = line.split_once(' ').ok_or("want `req N` or `conn N`")?;
        let mut tally = Tally::default();
        for _ in 0..n.parse::<usize>()? {
            let outcome = match what {
                "req" => within(kept.get(next())).await,
                "conn" => within(async { Client::open(route).await?.get(next()).await }).await,
                other => return Err(format!("got `{other}`, want req or conn").into()),
            };
            // A connection after an error is in no known state.
            if !tally.count(outcome) && what == "req" {
                break;
            }
        }
        let Tally { n, errors, first_error } = tally;
        println!("{}", serde_json::json!({"n": n, "errors": errors, "first_error": first_error}));
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [proxy, host, path, ca, key_id, secret, version @ ..] = given.as_slice() else {
        return Err("usage: load PROXY HOST PATH CA KEY_ID SECRET [h2]".into());
    };
    let http2 = !version.is_empty();
    let requests = request::signed(host, path, key_id, secret, http2)?;
    let route = Route::new(proxy, host, ca, http2)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&route, &requests))
}
