//! The process as the kernel sees it, under the names that every Prometheus exporter uses. Read when somebody asks;
//! where there is no `/proc`, nothing is told.

use std::fmt::Write;

use super::cells::head;

/// Fields of `/proc/self/stat` after the program's name, which may hold spaces and brackets; from proc(5), less 3.
const UTIME: usize = 11;
const STIME: usize = 12;
const THREADS: usize = 17;
const START: usize = 19;
const VIRTUAL: usize = 20;
const RESIDENT: usize = 21;

pub(super) fn write(text: &mut String) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{name}")).ok();
    let (Some(stat), Some(boot)) = (read("self/stat"), read("stat")) else { return };
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let Some(seen) = Seen::of(&stat, &boot, ticks, rustix::param::page_size() as u64) else { return };
    let mut one = |name: &str, kind: &str, help: &str, value: String| {
        head(text, name, help, kind);
        let _ = writeln!(text, "{name} {value}");
    };
    one("process_cpu_seconds_total", "counter", "Processor time, user and system.", seconds(seen.cpu, ticks));
    one("process_resident_memory_bytes", "gauge", "Memory held.", seen.resident.to_string());
    one("process_virtual_memory_bytes", "gauge", "Memory mapped.", seen.virtually.to_string());
    one("process_start_time_seconds", "gauge", "Start, in seconds since 1970.", seconds(seen.start, ticks));
    one("process_threads", "gauge", "Threads.", seen.threads.to_string());
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // Reading the folder takes one itself.
        one("process_open_fds", "gauge", "Descriptors in use.", open.count().saturating_sub(1).to_string());
    }
    if let Some(most) = read("self/limits").as_deref().and_then(most_descriptors) {
        one("process_max_fds", "gauge", "Descriptors at most.", most.to_string());
    }
}

/// Times in ticks.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    cpu: u64,
    threads: u64,
    start: u64,
    virtually: u64,
    resident: u64,
}

impl Seen {
    fn of(stat: &str, boot: &str, ticks: u64, page: u64) -> Option<Self> {
        let (_, after) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let booted: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(Self {
            cpu: field(UTIME)? + field(STIME)?,
            threads: field(THREADS)?,
            start: booted * ticks + field(START)?,
            virtually: field(VIRTUAL)?,
            resident: field(RESIDENT)? * page,
        })
    }
}

fn seconds(of: u64, ticks: u64) -> String {
    format!("{}.{:02}", of / ticks, of % ticks * 100 / ticks)
}

fn most_descriptors(limits: &str) -> Option<u64> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes_whatever_the_program_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 1234 9000 11 18446744073709551615 1";
        let seen = Seen::of(stat, "cpu 1\nbtime 1000\n", 100, 4096).unwrap();
        assert_eq!(seen, Seen { cpu: 300, threads: 3, start: 101_234, virtually: 9000, resident: 11 * 4096 });
        assert_eq!((seconds(seen.cpu, 100), seconds(seen.start, 100)), ("3.00".into(), "1012.34".into()));
        assert_eq!(Seen::of("7 (a) S 1", "btime 1\n", 100, 4096), None);
        assert_eq!(most_descriptors("Limit\nMax open files            1024    4096    files\n"), Some(1024));
        assert_eq!(most_descriptors("Max open files            unlimited\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn tells_of_this_process() {
        let mut text = String::new();
        write(&mut text);
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_threads",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in\n{text}");
        }
    }
}
