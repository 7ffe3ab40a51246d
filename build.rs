//! Tells the program what it is built out of: versions from Cargo.lock, and the features that are on.

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let lock = std::fs::read_to_string("Cargo.lock").expect("Cargo.lock is committed");
    let fips = std::env::var_os("CARGO_FEATURE_FIPS").is_some();
    let module = if fips { "aws-lc-fips-sys" } else { "aws-lc-sys" };
    println!("cargo::rustc-env=EXEAT_AWS_LC_MODULE={module}");
    for (name, variable) in
        [("rustls", "EXEAT_RUSTLS"), ("aws-lc-rs", "EXEAT_AWS_LC_RS"), (module, "EXEAT_AWS_LC_SYS")]
    {
        let version = version(&lock, name).unwrap_or_else(|| panic!("Cargo.lock names no {name}"));
        println!("cargo::rustc-env={variable}={version}");
    }
    let mut features: Vec<String> = std::env::vars()
        .filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(str::to_lowercase))
        .filter(|name| name != "default")
        .collect();
    features.sort();
    println!("cargo::rustc-env=EXEAT_FEATURES={}", features.join(" "));
}

/// A package's version: the line after its name.
fn version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let after = lock.split_once(&format!("\nname = \"{name}\"\nversion = \""))?.1;
    after.split('"').next()
}
