//! Files, pipes and full disks: no line is lost, and no request goes on without its line.

use super::*;

/// Names the file to the test that runs as a process of its own.
const CHILD: &str = "EXEAT_TEST_AUDIT_FILE";

#[test]
fn a_full_disk_refuses_the_request_and_shows() {
    let records = records(to_file(Path::new("/dev/full")));
    let recorder = records.recorder();
    assert!(!records.is_down());
    assert_eq!(wait(pass(&recorder)), Err(AuditDown));
    assert!(records.is_down());
    wait(refuse(&recorder));
    let metrics = String::from_utf8(records.metrics.text()).unwrap();
    // The intent, the aborted event of the entry that was dropped, and the refusal.
    assert!(metrics.contains("exeat_audit_failures_total 3"), "{metrics}");
    let good = folder("recovers").join("audit.jsonl");
    wait(pass(&self::records(to_file(&good)).recorder())).unwrap();
    assert!(verify(std::fs::read(&good).unwrap()).is_whole());
}

#[test]
fn an_unwritable_file_is_one_sentence_at_start() {
    let folder = folder("unwritable");
    for (path, want) in [
        (folder.clone(), "is a directory; name a file"),
        (folder.join("none/audit.jsonl"), "cannot open audit file"),
    ] {
        let error = Sink::open(&Target::File { path, rotation: None }).err().unwrap().to_string();
        assert!(error.contains(want) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_new_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let path = folder("mode").join("audit.jsonl");
    drop(to_file(&path));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

/// What comes before a timer that was set when it began: on a busy machine both are late, and the order stays.
async fn before<T>(limit: Duration, ends: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        ended = ends => ended,
        () = tokio::time::sleep(limit) => panic!("not within {limit:?}"),
    }
}

#[test]
fn a_pipe_gets_every_line_and_a_stalled_one_refuses_in_time() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let records = records(Sink::over(File::from(OwnedFd::from(writer)), None, None).unwrap());
    let recorder = records.recorder();
    wait(async {
        let mut passed = 0;
        // Nobody reads: the pipe's 64 KiB fill up.
        while before(Duration::from_secs(1), pass(&recorder)).await.is_ok() {
            passed += 1;
            assert!(passed < 1_000);
        }
        assert!(passed > 10 && records.is_down(), "{passed}");
        assert_eq!(pass(&recorder).await.err(), Some(AuditDown), "it stays so");
    });
    // The reader comes back: what was queued is written late, in its place, and new requests pass.
    let mut text = Vec::new();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| reader.read_to_end(&mut text));
        assert!(records.flush(Duration::from_secs(5)));
        assert!(!records.is_down(), "nobody need ask first: `/ready` may be why nobody does");
        wait(pass(&recorder)).unwrap();
        drop((recorder, records));
        reading.join().unwrap().unwrap();
    });
    let report = verify(&text);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.torn, report.interrupted()), (0, 0));
}

/// Reads a collector's connection to its end.
fn collected(listener: &std::os::unix::net::UnixListener) -> Vec<u8> {
    let mut text = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut text).unwrap();
    text
}

#[test]
fn a_socket_gets_every_line_and_nobody_there_is_one_sentence_at_start() {
    let path = folder("socket").join("s");
    let error = Sink::open(&Target::Socket(path.clone())).err().unwrap().to_string();
    assert!(error.contains("cannot connect to audit socket") && error.contains("log collector"), "{error}");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let records = records(Sink::open(&Target::Socket(path)).unwrap());
    std::thread::scope(|scope| {
        let collecting = scope.spawn(|| collected(&listener));
        let recorder = records.recorder();
        wait(async {
            for _ in 0..100 {
                pass(&recorder).await.unwrap();
            }
        });
        drop((recorder, records));
        let report = verify(collecting.join().unwrap());
        assert!(report.is_whole() && report.lines == 201, "{report:?}");
    });
}

#[test]
fn a_collector_that_comes_back_is_connected_anew_and_the_lane_begins_again_there() {
    let path = folder("collector").join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let records = records(Sink::open(&Target::Socket(path.clone())).unwrap());
    let recorder = records.recorder();
    let (mut first, _) = listener.accept().unwrap();
    wait(pass(&recorder)).unwrap();
    let mut before = vec![0; 4096];
    let mut read = 0;
    while before[..read].iter().filter(|byte| **byte == b'\n').count() < 3 {
        read += first.read(&mut before[read..]).unwrap();
    }
    // It goes, and nobody listens: requests are refused until somebody does.
    drop((first, listener));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(wait(pass(&recorder)), Err(AuditDown));
    assert!(records.is_down());
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::scope(|scope| {
        let collecting = scope.spawn(|| collected(&listener));
        // The first line that comes finds the collector; what waited goes first.
        while wait(pass(&recorder)).is_err() {}
        assert!(!records.is_down());
        drop((recorder, records));
        let after = collecting.join().unwrap();
        assert!(after.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"{\"exeat\":\"lane\"")));
        let report = verify([&before[..read], &after].concat());
        assert!(report.is_whole() && report.torn == 0, "{report:?}");
    });
}

#[test]
fn a_blocked_socket_refuses_in_time_and_loses_nothing() {
    let path = folder("blocked").join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let records = records(Sink::open(&Target::Socket(path)).unwrap());
    let (recorder, (mut collector, _)) = (records.recorder(), listener.accept().unwrap());
    wait(async {
        let mut passed = 0;
        while pass(&recorder).await.is_ok() {
            passed += 1;
            assert!(passed < 10_000, "nobody reads, and every line is taken");
        }
        assert!(passed > 10 && records.is_down(), "{passed}");
    });
    let mut text = Vec::new();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| collector.read_to_end(&mut text));
        assert!(records.flush(Duration::from_secs(5)));
        wait(pass(&recorder)).unwrap();
        drop((recorder, records));
        reading.join().unwrap().unwrap();
    });
    let report = verify(&text);
    assert!(report.is_whole() && report.torn == 0 && report.interrupted() == 0, "{report:?}");
}

#[test]
fn a_file_moved_away_is_let_go_at_reopening() {
    let folder = folder("reopen");
    let (path, moved) = (folder.join("audit.jsonl"), folder.join("moved.jsonl"));
    let records = records(to_file(&path));
    let recorder = records.recorder();
    wait(pass(&recorder)).unwrap();
    std::fs::rename(&path, &moved).unwrap();
    wait(pass(&recorder)).unwrap();
    records.reopen().unwrap();
    wait(pass(&recorder)).unwrap();
    assert_eq!(std::fs::read_to_string(&moved).unwrap().lines().count(), 5);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
    let mut out = Vec::new();
    assert!(
        audit::verify(&[path, moved], audit::Extent::Whole, &mut out, false).unwrap(),
        "{}",
        String::from_utf8_lossy(&out)
    );
}

/// Writes until it is killed, or until the sink fails; then reopens and writes one more.
#[test]
#[ignore = "run by other tests as a process of its own"]
fn child() {
    let path = PathBuf::from(std::env::var(CHILD).unwrap());
    let records = records(to_file(&path));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let recorder = records.recorder();
            scope.spawn(move || wait(async { while pass(&recorder).await.is_ok() {} }));
        }
    });
    let recorder = records.recorder();
    assert_eq!(wait(pass(&recorder)), Err(AuditDown));
    std::fs::rename(&path, path.with_extension("full")).unwrap();
    records.reopen().unwrap();
    wait(pass(&recorder)).unwrap();
}

fn child_command(before: &str, file: &Path) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("{before} exec \"$0\" \"$@\"")]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "sinks::child", "--ignored", "--nocapture"]).env(CHILD, file);
    command.stdout(std::process::Stdio::null());
    command
}

#[test]
fn a_line_cut_short_by_a_full_disk_is_torn_and_the_lanes_go_on() {
    let path = folder("partial").join("audit.jsonl");
    // The kernel cuts the write that crosses the limit, as a full disk does.
    let status = child_command("trap '' XFSZ; ulimit -f 99;", &path).status().unwrap();
    assert!(status.success());
    let full = path.with_extension("full");
    let report = verify(std::fs::read(&full).unwrap());
    assert_eq!(report.torn, 1, "{report:?}");
    let mut out = Vec::new();
    assert!(
        audit::verify(&[full, path], audit::Extent::Whole, &mut out, false).unwrap(),
        "{}",
        String::from_utf8_lossy(&out)
    );
}

#[test]
fn no_line_is_lost_or_broken_over_kill_9() {
    let folder = folder("kill");
    let path = folder.join("audit.jsonl");
    for round in 0..5 {
        let before = path.metadata().map_or(0, |meta| meta.len());
        let mut child = child_command("", &path).spawn().unwrap();
        let start = Instant::now();
        while path.metadata().map_or(0, |meta| meta.len()) < before + 100_000 + round * 777 {
            assert!(start.elapsed() < Duration::from_secs(30), "the child does not write");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let report = verify(std::fs::read(&path).unwrap());
    assert!(report.is_whole(), "{report:?}");
    // One of a start's two lanes may not have had its turn.
    assert!((5..=10).contains(&report.lanes.len()), "{report:?}");
    assert!(report.interrupted() <= 10 && report.torn <= 5, "{report:?}");
}
