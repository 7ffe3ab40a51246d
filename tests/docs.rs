//! The documentation is true where a program can tell: links lead somewhere, the index names every page, and the page
//! about `run` names the flags that `run` has and no others.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml knows by their attribute only

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let listed = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    listed.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// Targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

/// Words that begin with `--` and a letter.
fn flags(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words
        .filter(|word| word.strip_prefix("--").is_some_and(|rest| rest.starts_with(char::is_alphabetic)))
        .collect()
}

#[test]
fn every_link_leads_to_a_file_and_the_index_names_every_page() {
    let mut pages = pages();
    assert!(pages.len() > 5, "{pages:?}");
    pages.push(root().join("README.md"));
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        for link in links(&text).filter(|link| !link.contains("://")) {
            let file = link.split('#').next().unwrap();
            let there = file.is_empty() || page.parent().unwrap().join(file).exists();
            assert!(there, "{}: {link}", page.display());
        }
    }
    let index = std::fs::read_to_string(root().join("docs/README.md")).unwrap();
    for page in pages.iter().map(|page| page.file_name().unwrap().to_str().unwrap()) {
        assert!(page == "README.md" || links(&index).any(|link| link == page), "docs/README.md lacks {page}");
    }
}

#[test]
fn the_page_about_run_names_the_flags_that_run_has_and_no_others() {
    let help = Command::new(env!("CARGO_BIN_EXE_exeat")).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, options) = help.split_once("Options:").unwrap();
    let page = std::fs::read_to_string(root().join("docs/forward.md")).unwrap();
    let (_, table) = page.split_once("## Flags").unwrap();
    let rows: String = table.lines().filter_map(|row| row.strip_prefix("| `")?.split('|').next()).collect();
    let mut has = flags(options);
    has.remove("--help");
    assert_eq!(flags(&rows), has);
}
