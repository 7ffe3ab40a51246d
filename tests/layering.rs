//! Imports run one way (docs: the list in `ALLOWED`). Reads every `crate::…` path in `src/`, whether in a `use` or in
//! an expression, and fails on one that points up or sideways.

use std::path::Path;

/// Who may import whom, by top-level module. `crate::engine` is all that the engine's own files may name.
const ALLOWED: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["app", "proxy", "tls", "keys", "record", "admin", "host", "config", "engine"]),
    ("app", &["proxy", "tls", "keys", "record", "admin", "host", "config", "engine"]),
    ("proxy", &["tls", "keys", "record", "config", "engine"]),
    ("admin", &["record", "config", "engine"]),
    ("tls", &["config", "engine"]),
    ("keys", &["config", "engine"]),
    ("record", &["config", "engine"]),
    ("host", &["config", "engine"]),
    ("config", &["engine"]),
    ("engine", &[]),
];

/// `a/b.rs` belongs to `a`; `a.rs` too.
fn module_of(path: &Path) -> String {
    let first = path.components().next().expect("a path has a part").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The top-level modules that a source text names, with the line. Comments and doc links don't count.
fn imports(text: &str) -> Vec<(usize, String)> {
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
        for (start, _) in code.match_indices("crate::").chain(code.match_indices("exeat::")) {
            let before = code[..start].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let rest = &code[start + "crate::".len()..];
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
    imports(text)
        .into_iter()
        .filter(|(_, name)| *name != module && !allowed.contains(&name.as_str()))
        // Macros and other names at the crate's root are not modules.
        .filter(|(_, name)| ALLOWED.iter().any(|(known, _)| known == name))
        .map(|(line, name)| format!("{}:{line}: `{module}` may not import `{name}`", path.display()))
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
            found.extend(violations(path.strip_prefix(root).expect("below src"), &text));
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
