//! Tells the program which commit it is built from, where there is a checkout of it; anywhere else it knows none.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The log of HEAD grows with every commit and every change of branch.
    let log = Path::new("../../.git/logs/HEAD");
    if log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    let found = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let Ok(output) = found else { return };
    if let (true, Ok(commit)) = (output.status.success(), String::from_utf8(output.stdout)) {
        println!("cargo::rustc-env=MOESCOPE_COMMIT={}", commit.trim());
    }
}
