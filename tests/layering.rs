//! Imports run one way (docs: the list in `ALLOWED`). Reads every `crate::…` path in `src/`, and every `super::…` that
//! climbs to the root, whether in a `use` or in an expression, and fails on one that points up or sideways. The engine
//! must also be pure: it names nothing by which one reads a file, a clock or a socket.

use std::path::Path;

/// Who may import whom, by top-level module. `crate::engine` is all that the engine's own files may name.
const ALLOWED: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["app", "proxy", "tls", "keys", "record", "admin", "config", "engine"]),
    ("app", &["proxy", "tls", "keys", "record", "admin", "config", "engine"]),
    ("proxy", &["tls", "keys", "record", "config", "engine"]),
    ("admin", &["record", "config", "engine"]),
    ("tls", &["config", "engine"]),
    ("keys", &["config", "engine"]),
    ("record", &["config", "engine"]),
    ("config", &["engine"]),
    ("engine", &[]),
];

/// What reaches out of the process, or asks it what time it is.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::process",
    "std::thread",
    "std::os",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "SystemTime",
    "Instant",
    "now_utc",
    "tokio",
    "tracing",
    "println!",
];

/// `a/b.rs` belongs to `a`; `a.rs` too.
fn module_of(path: &Path) -> String {
    let first = path.components().next().expect("a path has a part").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The top-level modules that a source text names, with the line. Comments and doc links don't count. As many `super::`
/// as the file stands deep lead to the root.
fn imports(text: &str, depth: usize) -> Vec<(usize, String)> {
    let root = "super::".repeat(depth);
    let mut found = Vec::new();
    let mut group: Option<usize> = None;
    for (at, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if let Some(depth) = group.as_mut() {
            // Inside `use crate::{`: names at the first level are modules.
            scan_group(code, depth, at + 1, &mut found);
            if *depth == 0 {
                group = None;
            }
            continue;
        }
        for (start, found_root) in code
            .match_indices("crate::")
            .chain(code.match_indices("exeat::"))
            .chain(code.match_indices(&root))
        {
            let before = code[..start].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let rest = &code[start + found_root.len()..];
            if let Some(inner) = rest.strip_prefix('{') {
                let mut depth = 1;
                scan_group(inner, &mut depth, at + 1, &mut found);
                if depth > 0 {
                    group = Some(depth);
                }
            } else {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                found.push((at + 1, name));
            }
        }
    }
    found
}

fn scan_group(code: &str, depth: &mut usize, line: usize, found: &mut Vec<(usize, String)>) {
    let mut name = String::new();
    let mut in_path = false;
    for c in code.chars() {
        match c {
            '{' => *depth += 1,
            '}' => *depth -= 1,
            c if *depth == 1 && (c.is_alphanumeric() || c == '_') && !in_path => {
                name.push(c);
                continue;
            }
            _ => {}
        }
        if !name.is_empty() {
            found.push((line, std::mem::take(&mut name)));
        }
        in_path = match c {
            ':' => true,
            ',' => false,
            _ => in_path,
        };
        if *depth == 0 {
            return;
        }
    }
    if !name.is_empty() {
        found.push((line, name));
    }
}

fn violations(path: &Path, text: &str) -> Vec<String> {
    let module = module_of(path);
    if module == "lib" {
        return Vec::new();
    }
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
        return vec![format!(
            "{}: `{module}` has no place in the layering; give it one here",
            path.display()
        )];
    };
    imports(text, path.components().count())
        .into_iter()
        .filter(|(_, name)| *name != module && !allowed.contains(&name.as_str()))
        // Macros and other names at the crate's root are not modules.
        .filter(|(_, name)| ALLOWED.iter().any(|(known, _)| known == name))
        .map(|(line, name)| format!("{}:{line}: `{module}` may not import `{name}`", path.display()))
        .collect()
}

/// Lines of the engine by which it would see more than it is handed. Its tests may read files.
fn impure(path: &Path, text: &str) -> Vec<String> {
    if module_of(path) != "engine" || path.ends_with("tests.rs") {
        return Vec::new();
    }
    let program = text.split("\n#[cfg(test)]").next().unwrap_or_default();
    let lines =
        program.lines().enumerate().map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()));
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let names = |code: &str, what: &str| {
        code.match_indices(what)
            .any(|(at, _)| !code[..at].ends_with(is_word) && !code[at + what.len()..].starts_with(is_word))
    };
    lines
        .filter_map(|(at, code)| IMPURE.iter().find(|what| names(code, what)).map(|what| (at, what)))
        .map(|(at, what)| format!("{}:{at}: the engine may not name `{what}`", path.display()))
        .collect()
}

fn walk(folder: &Path, root: &Path, found: &mut Vec<String>, files: &mut usize) {
    for entry in std::fs::read_dir(folder).expect("src is there") {
        let path = entry.expect("src can be listed").path();
        if path.is_dir() {
            walk(&path, root, found, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file is text");
            *files += 1;
            let path = path.strip_prefix(root).expect("below src");
            found.extend(violations(path, &text));
            found.extend(impure(path, &text));
        }
    }
}

#[test]
fn imports_run_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut files) = (Vec::new(), 0);
    walk(&root, &root, &mut found, &mut files);
    assert!(files > 10, "only {files} files were read");
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// A row for a module that is gone would allow whatever comes in its name.
#[test]
fn each_module_has_its_row_and_each_row_its_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let text = std::fs::read_to_string(root).expect("the library's root is there");
    let mut modules: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    modules.push("main");
    modules.sort_unstable();
    let mut rows: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    rows.sort_unstable();
    assert_eq!(rows, modules);
}

#[test]
fn an_impure_engine_is_found() {
    let rows: &[(&str, &str, usize)] = &[
        ("engine/policy/file.rs", "use std::fs;", 1),
        ("engine.rs", "let now = std::time::SystemTime::now();", 1),
        ("engine/target.rs", "use tokio::net::TcpStream;\nuse std::net::IpAddr;", 1),
        ("engine/target.rs", "// std::fs is elsewhere\nuse std::net::IpAddr;\nstruct Instantly;", 0),
        ("engine/target.rs", "\n#[cfg(test)]\nmod tests { use std::fs; }", 0),
        ("engine/policy/tests.rs", "use std::fs;", 0),
        ("keys.rs", "use std::fs;", 0),
    ];
    for (path, text, want) in rows {
        let found = impure(Path::new(path), text);
        assert_eq!(found.len(), *want, "{path}: {text}: {found:?}");
    }
}

#[test]
fn a_made_up_violation_is_found() {
    let rows: &[(&str, &str, usize)] = &[
        ("engine/policy.rs", "use crate::tls::Mint;", 1),
        ("engine.rs", "fn f() { crate::config::load() }", 1),
        ("tls/mint.rs", "use crate::{engine::target::Host, proxy::pool};", 1),
        ("tls/mint.rs", "use crate::{\n    engine::{target::Host, reason},\n    record::Entry,\n};", 1),
        ("config.rs", "pub use crate::app;", 1),
        ("record/lane.rs", "use crate::proxy::body;\nuse crate::keys;", 2),
        ("proxy/pool.rs", "use crate::admin::serve;", 1),
        ("main.rs", "fn main() { exeat::app::run() }", 1),
        ("tls.rs", "use super::app;", 1),
        ("tls/mint.rs", "use super::super::{keys, engine};", 1),
        ("tls/mint.rs", "use super::keys;", 0),
        ("attic/old.rs", "", 1),
        ("engine/policy.rs", "// crate::tls is elsewhere\nuse crate::engine::target;", 0),
        ("tls/mint.rs", "use crate::{engine::target::Host, config::Config};", 0),
        ("proxy/pool.rs", "use crate::record::{proxy, admin};", 0),
        ("main.rs", "fn main() { exeat::cli::run() }", 0),
        ("engine/x.rs", "use some_crate::tls;", 0),
    ];
    for (path, text, want) in rows {
        let found = violations(Path::new(path), text);
        assert_eq!(found.len(), *want, "{path}: {text}: {found:?}");
    }
}
