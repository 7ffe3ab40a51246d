//! `exeat version`: what was built, out of what, and which edition of AWS it knows.

use std::io::Write;

use serde_json::json;

use super::{Error, Output, OutputArgs};
use crate::engine::atlas::Atlas;

/// Written by `build.rs` out of Cargo.lock, so that they are what was linked.
const RUSTLS: &str = env!("EXEAT_RUSTLS");
const AWS_LC_RS: &str = env!("EXEAT_AWS_LC_RS");
/// `aws-lc-sys`, or `aws-lc-fips-sys`.
const AWS_LC_MODULE: &str = env!("EXEAT_AWS_LC_MODULE");
const AWS_LC_SYS: &str = env!("EXEAT_AWS_LC_SYS");
const FEATURES: &str = env!("EXEAT_FEATURES");

pub(super) fn version(args: &OutputArgs, out: &mut dyn Write) -> Result<bool, Error> {
    let version = env!("CARGO_PKG_VERSION");
    let atlas = Atlas::built_in();
    let features: Vec<&str> = FEATURES.split_terminator(' ').collect();
    let fips = crate::tls::provider().fips();
    if args.output == Output::Json {
        super::json(
            out,
            &json!({
                "version": version,
                "atlas": {"source": atlas.source(), "sha256": atlas.hash()},
                "rustls": RUSTLS,
                "aws_lc": {"rs": AWS_LC_RS, "sys": AWS_LC_SYS, "fips": fips},
                "features": features,
            }),
        )?;
        return Ok(true);
    }
    writeln!(out, "exeat {version}")?;
    writeln!(out, "atlas {} (sha256 {})", atlas.source(), &atlas.hash()[..12])?;
    let module = if fips { ", FIPS mode" } else { "" };
    writeln!(out, "rustls {RUSTLS}, aws-lc-rs {AWS_LC_RS}, {AWS_LC_MODULE} {AWS_LC_SYS}{module}")?;
    writeln!(out, "features {}", if features.is_empty() { "none" } else { FEATURES })?;
    Ok(true)
}
