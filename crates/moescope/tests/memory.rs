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

/// A run with many experts, untrained but for one step, and a text.
fn run_and_text(folder: &Path) -> (PathBuf, PathBuf) {
    let (config, run, text) = (folder.join("run.toml"), folder.join("run"), folder.join("text.jsonl"));
    let toml = "[model]\nfamily = \"moe\"\nd_model = 32\nlayers = 6\nheads = 2\nd_ff = 128\nexpansion = 8\ngranularity = 1\n\
                [data]\ncorpus = \"embedded\"\nvocab = 300\npositions = 16\nevaluation_windows = 2\n\
                [training]\nsteps = 1\nbatch = 2\nlearning_rate = 1e-3\nseed = 1\n";
    fs::write(&config, toml).unwrap();
    let line = |i: usize| {
        format!("{{\"text\":\"The {i}th of the numbers is {}, and it is known for that.\"}}\n", i * i)
    };
    fs::write(&text, (0..40).map(line).collect::<String>()).unwrap();
    let mut command = Command::cargo_bin("moescope").unwrap();
    let trained = command.arg("train").arg("--config").arg(&config).arg("--out").arg(&run).output().unwrap();
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    (run, text)
}

#[test]
fn knockout_and_analyze_find_the_same_whichever_way_memory_allows() {
    let folder = tempfile::tempdir().unwrap();
    let (run, text) = run_and_text(folder.path());
    let (run, text) = (run.to_str().unwrap(), text.to_str().unwrap());
    let out = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let analysed = ["analyze", "routing,calibration,logit-lens,router-geometry", run, "--permutations", "9"];
    for (name, call) in
        [("knockout", &["knockout", run, "--experts", "1:0", "--matched", "2"][..]), ("analyze", &analysed)]
    {
        let ask = |memory: &str, place: &str, more: &[&str]| {
            let place = out(&format!("{name}-{place}"));
            let options = [
                "--threads",
                "1",
                "--json",
                "--text",
                text,
                "--positions",
                "16",
                "--max-memory",
                memory,
                "--out",
                &place,
            ];
            Command::cargo_bin("moescope").unwrap().args(call).args(options).args(more).output().unwrap()
        };
        let plan = |memory: &str| -> Value {
            serde_json::from_slice(&ask(memory, "plan", &["--dry-run"]).stdout).unwrap()
        };
        // Where many short sequences do not fit together, fewer may, with all weights in memory still.
        let mut bound = between(&plan("8GiB")).to_string();
        while plan(&bound)["plan"]["way"] == "in_memory" {
            bound = between(&plan(&bound)).to_string();
        }
        assert!(!Path::new(&out(&format!("{name}-plan"))).exists());
        let (wide, narrow) = (ask("8GiB", "wide", &[]), ask(&bound, "narrow", &[]));
        let said = String::from_utf8_lossy(&narrow.stderr);
        assert!(narrow.status.success() && said.contains("read as they are needed"), "{name}: {said}");
        assert!(wide.status.success(), "{}", String::from_utf8_lossy(&wide.stderr));
        assert!(wide.stdout == narrow.stdout && !wide.stdout.is_empty(), "{name}");
        for file in
            fs::read_dir(out(&format!("{name}-wide/tables"))).unwrap().map(|file| file.unwrap().file_name())
        {
            let [a, b] = ["wide", "narrow"]
                .map(|place| Path::new(&out(&format!("{name}-{place}/tables"))).join(&file));
            assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{name}: {file:?}");
        }
        let refused = ask("1MiB", "none", &[]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            refused.status.code() == Some(2)
                && said.contains("needs at least")
                && said.contains("may take 1.0 MiB"),
            "{said}"
        );
    }
}
