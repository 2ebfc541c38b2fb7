//! Models within a bound of memory, at the command line.

#![allow(clippy::unwrap_used)] // a test that cannot go on may panic

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/mixtral__bf16_sharded")
}

/// Records everything of the fixture with the options, on one thread.
fn record(out: &Path, options: &[&str]) -> Output {
    let mut command = Command::cargo_bin("moescope").unwrap();
    command.args(["--threads", "1", "--json", "record"]).arg(fixture()).arg("--ids");
    command.arg(fixture().join("reference.safetensors")).args(["--hooks", "*", "--out"]).arg(out);
    command.args(options).output().unwrap()
}

/// The plan with the options; nothing is written.
fn plan(out: &Path, options: &[&str]) -> Value {
    let output = record(out, &[options, &["--dry-run"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!out.exists());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A bound into which the streamed way fits and the other does not. Spare buffers are a sixteenth of the bound, which solves for it.
fn between(plan: &Value) -> u64 {
    let number = |key: &str| plan["plan"][key].as_u64().unwrap();
    let spare = 2 * number("spare");
    let [low, high] = ["streamed", "in_memory"].map(|way| (number(way) - spare) * 16 / 15);
    assert!(low + 1000 < high, "{plan}");
    (low + high) / 2
}

#[test]
fn the_file_is_the_same_whichever_way_memory_allows() {
    let folder = tempfile::tempdir().unwrap();
    let (ample, bounded) = (folder.path().join("ample"), folder.path().join("bounded"));
    let wide = plan(&ample, &["--max-memory", "8GiB"]);
    assert_eq!(wide["plan"]["way"], "in_memory");
    let bound = between(&wide).to_string();
    let narrow = plan(&bounded, &["--max-memory", &bound]);
    assert_eq!(narrow["plan"]["way"], "streamed");
    assert!(narrow["seconds"].as_f64().unwrap() > 0.0 && narrow["disk"].as_u64().unwrap() > 0);

    assert!(record(&ample, &["--max-memory", "8GiB"]).status.success());
    let output = record(&bounded, &["--max-memory", &bound]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("read as they are needed"), "{said}");
    assert!(fs::read(&ample).unwrap() == fs::read(&bounded).unwrap());
}

#[test]
fn a_bound_that_nothing_fits_and_gradients_within_one_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let wide = plan(&out, &["--max-memory", "8GiB"]);
    let bound = between(&wide).to_string();
    for (options, words) in [
        (vec!["--max-memory", "1MiB"], vec!["may take 1.0 MiB", "--dry-run"]),
        (vec!["--max-memory", &bound, "--grad", "loss"], vec!["gradients", "allow more memory"]),
        (vec!["--max-memory", "much"], vec!["2GiB"]),
    ] {
        let output = record(&out, &options);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert!(!out.exists());
    }
}
