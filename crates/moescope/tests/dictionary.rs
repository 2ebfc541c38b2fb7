//! Dictionaries as a user meets them: learned, measured, refused.

#![allow(clippy::unwrap_used)] // a test that cannot go on may panic

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use assert_cmd::Command;
use moescope::dictionary::{Dictionary, Parts, Place, Rule};
use moescope::engine::Tensor;
use serde_json::Value;

const SITE: &str = "blocks.0.hook_resid_post";

fn call(arguments: &[&str]) -> Output {
    Command::cargo_bin("moescope").unwrap().arg("--no-progress").args(arguments).output().unwrap()
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A routed run of some steps, and text of several documents, made once for all tests.
fn setting() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        for part in ["learn", "test"] {
            let place = folder.path().join(part);
            fs::create_dir_all(&place).unwrap();
            for document in 0..8 {
                let line = |i: usize| {
                    let words = ["heron", "hammer", "is", "the", "number", "of", "a", "day"];
                    let pick = |k: usize| words[(i * i + k * (document + 3) + part.len()) % words.len()];
                    format!("The {} {} {} {i}. ", pick(1), pick(2), pick(3))
                };
                fs::write(place.join(format!("{document}.txt")), (0..30).map(line).collect::<String>())
                    .unwrap();
            }
        }
        let config = folder.path().join("moe.toml");
        let toml = "[model]\nfamily = \"moe\"\nexpansion = 2\ngranularity = 2\nd_model = 16\nlayers = 2\nheads = 2\nd_ff = 32\n\
             [data]\ncorpus = \"embedded\"\nvocab = 300\npositions = 64\nevaluation_windows = 2\n\
             [training]\nsteps = 30\nbatch = 4\nlearning_rate = 3e-3\nseed = 1\n";
        fs::write(&config, toml).unwrap();
        let done =
            call(&["train", "--config", text_of(&config), "--out", text_of(&folder.path().join("moe"))]);
        assert!(done.status.success(), "{}", said(&done));
        folder
    };
    FOLDER.get_or_init(make).path()
}

fn train(out: &Path, more: &[&str]) -> Output {
    let (model, text) = (setting().join("moe"), setting().join("learn"));
    let fixed = ["dictionary", "train", text_of(&model), "--text", text_of(&text), "--out", text_of(out)];
    let sizes =
        [("--size", "24"), ("--k", "4"), ("--tokens", "20000"), ("--batch", "128"), ("--positions", "32")];
    let usual = sizes.iter().filter(|(name, _)| !more.contains(name)).flat_map(|(name, size)| [*name, *size]);
    let sizes: Vec<&str> = usual.collect();
    call(&[&fixed, sizes.as_slice(), more].concat())
}

fn measure(dictionary: &Path, more: &[&str]) -> Value {
    let (model, text) = (setting().join("moe"), setting().join("test"));
    let fixed =
        ["--json", "dictionary", "measure", text_of(&model), text_of(dictionary), "--text", text_of(&text)];
    let done = call(&[&fixed, ["--positions", "32"].as_slice(), more].concat());
    assert!(done.status.success(), "{}", said(&done));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn value(document: &Value, name: &str, key: &str) -> f64 {
    let all = document["measures"].as_array().unwrap();
    let found = all.iter().find(|measure| measure["measure"] == name).unwrap_or_else(|| panic!("no {name}"));
    found[key].as_f64().unwrap_or(f64::NAN)
}

/// A dictionary of the residual stream with a feature for each side of each axis: it writes exactly what it reads. With `silent` it writes
/// nothing but its bias, zero.
fn exact(folder: &Path, silent: bool) -> PathBuf {
    let width = 16;
    let side = |feature: usize, axis: usize| match feature % width == axis {
        true => {
            if feature < width {
                1.0
            } else {
                -1.0
            }
        }
        false => 0.0,
    };
    let pairs = |f: &dyn Fn(usize) -> (usize, usize)| {
        (0..2 * width * width).map(f).map(|(n, a)| side(n, a)).collect()
    };
    let parts = Parts {
        rule: Rule::Relu,
        encoder: Tensor::new([2 * width, width], pairs(&|i| (i / width, i % width))).unwrap(),
        encoder_bias: Tensor::full([2 * width], if silent { -1e6 } else { 0.0 }),
        decoder: Tensor::new([width, 2 * width], pairs(&|i| (i % (2 * width), i / (2 * width)))).unwrap(),
        bias: Tensor::zeros([width]),
        centred: true,
    };
    let place = Place { model: "moe".into(), hook: SITE.into(), target_hook: None };
    let path = folder.join(if silent { "silent" } else { "exact" });
    Dictionary::new(parts, place).unwrap().save(&path, &Value::Null).unwrap();
    path
}

#[test]
fn writing_back_what_was_there_recovers_everything_and_silence_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let found = measure(&exact(scratch.path(), false), &[]);
    for name in ["explained variance", "loss recovered, from the mean", "loss recovered, from zero"] {
        assert!((value(&found, name, "value") - 1.0).abs() < 1e-4, "{name}: {found}");
        assert!((value(&found, name, "ci_low") - 1.0).abs() < 1e-3, "{name}");
    }
    // It explains Gaussian rows as well, which is what the null is for; each axis has one active side.
    assert!((value(&found, "explained variance", "null") - 1.0).abs() < 1e-4);
    assert!((value(&found, "active features (L0)", "value") - 16.0).abs() < 0.01);
    assert!(
        (value(&found, "loss of the model", "value") - value(&found, "loss with what is written", "value"))
            .abs()
            < 1e-5
    );
    let silent = measure(&exact(scratch.path(), true), &[]);
    assert_eq!(value(&silent, "loss recovered, from zero", "value"), 0.0);
    assert_eq!(value(&silent, "dead features", "value"), 1.0);
    assert!(value(&silent, "explained variance", "value") <= 0.0);
}

#[test]
fn every_kind_is_learned_better_than_random_directions_and_measured_with_intervals() {
    let scratch = tempfile::tempdir().unwrap();
    for kind in ["relu", "topk", "batchtopk", "jumprelu"] {
        let folder = scratch.path().join(kind);
        let done = train(&folder, &["--site", SITE, "--kind", kind]);
        assert!(done.status.success(), "{kind}: {}", said(&done));
        let report = scratch.path().join(format!("{kind}-report"));
        let found = measure(&folder, &["--out", text_of(&report)]);
        for file in ["report.html", "measures.json", "tables/measures.parquet", "tables/densities.parquet"] {
            assert!(report.join(file).exists(), "{kind}: {file}");
        }
        let [explained, random] = ["value", "random"].map(|key| value(&found, "explained variance", key));
        assert!(explained > 0.5 && explained > random, "{kind}: {explained} {random}");
        let [low, high] = ["ci_low", "ci_high"].map(|key| value(&found, "explained variance", key));
        assert!(low <= explained && explained <= high && low < high, "{kind}: {low} {explained} {high}");
        let recovered = value(&found, "loss recovered, from zero", "value");
        assert!(recovered > 0.5, "{kind}: {recovered}");
        assert_eq!((found["units"].as_str(), found["site"].as_str()), (Some("documents"), Some(SITE)));
        let features: u64 =
            found["densities"].as_array().unwrap().iter().map(|bin| bin["features"].as_u64().unwrap()).sum();
        assert_eq!(features, 24);
    }
    let [one, other] = ["topk", "batchtopk"].map(|kind| scratch.path().join(kind));
    let again = measure(&one, &["--against", text_of(&other)]);
    let [mean, null] =
        ["mean_cosine", "null_mean_cosine"].map(|key| again["found_again"][key].as_f64().unwrap());
    assert!(mean > null, "{mean} {null}");
}

#[test]
fn the_seed_decides_the_bytes_and_the_number_of_threads_does_not() {
    let scratch = tempfile::tempdir().unwrap();
    let weights = |name: &str, more: &[&str]| {
        let folder = scratch.path().join(name);
        let done = train(&folder, &[&["--site", SITE, "--kind", "topk", "--tokens", "3000"], more].concat());
        assert!(done.status.success(), "{}", said(&done));
        fs::read(folder.join("sae_weights.safetensors")).unwrap()
    };
    let first = weights("a", &["--threads", "1"]);
    assert!(first == weights("b", &["--threads", "2"]));
    assert!(first != weights("c", &["--seed", "2"]));
}

#[test]
fn one_expert_and_a_transcoder_of_a_routed_layer_are_learned_and_measured() {
    let scratch = tempfile::tempdir().unwrap();
    let expert = scratch.path().join("expert");
    let done = train(&expert, &["--expert", "1:0", "--kind", "topk"]);
    assert!(done.status.success(), "{}", said(&done));
    let found = measure(&expert, &[]);
    assert_eq!(found["site"], "blocks.1.mlp.experts.0.hook_out");
    assert!(found["rows"].as_u64().unwrap() < found["tokens"].as_u64().unwrap());
    assert!(value(&found, "explained variance", "value") > 0.3);
    for target in ["blocks.1.hook_mlp_out", "blocks.1.mlp.experts.0.hook_out"] {
        let folder = scratch.path().join(target);
        let done = train(&folder, &["--site", "blocks.1.ln2.hook_normalized", "--target", target]);
        assert!(done.status.success(), "{}", said(&done));
        let found = measure(&folder, &[]);
        assert_eq!(found["target"], target);
        assert!(value(&found, "explained variance", "value") > 0.1, "{target}: {found}");
        assert!(
            value(&found, "explained variance", "random").is_nan(),
            "a transcoder has no random directions"
        );
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    for (more, wanted) in [
        (vec!["--site", "blocks.0.hook_resid_pst"], "blocks.0.hook_resid_post"),
        (vec!["--site", "blocks.*.hook_resid_post"], "wanted one"),
        (vec![], "--site HOOK or --expert L:E"),
        (vec!["--expert", "1"], "L:E"),
        (vec!["--site", SITE, "--skip", "32"], "--skip 32"),
        (vec!["--site", SITE, "--kind", "gated"], "relu, topk, batchtopk, jumprelu"),
        (vec!["--site", SITE, "--k", "25"], "`k` is 25"),
        (vec!["--site", SITE, "--target", "blocks.1.hook_mlp_out", "--kind", "topk"], "batchtopk"),
    ] {
        let done = train(&out, &more);
        assert_eq!(done.status.code(), Some(2), "{more:?}");
        assert!(said(&done).contains(wanted), "{more:?}: {}", said(&done));
    }
    assert!(!out.exists());
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.tex"), "mine").unwrap();
    assert!(said(&train(&out, &["--site", SITE])).contains("thesis.tex"));
    let (model, text) = (setting().join("moe"), setting().join("test"));
    let refused = |dictionary: &Path, more: &[&str]| {
        let fixed = ["dictionary", "measure", text_of(&model), text_of(dictionary), "--text", text_of(&text)];
        said(&call(&[fixed.as_slice(), more].concat()))
    };
    assert!(refused(&out, &[]).contains("cfg.json"));
    let exact = exact(scratch.path(), false);
    let message = refused(&exact, &["--site", "logits"]);
    assert!(message.contains("reads 16 numbers"), "{message}");
}

#[test]
fn a_plan_is_told_and_nothing_written() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let done = train(&out, &["--site", SITE, "--dry-run"]);
    assert!(done.status.success() && !out.exists(), "{}", said(&done));
    assert!(
        String::from_utf8_lossy(&done.stdout).contains("memory") && said(&done).contains("learning itself")
    );
    let found = measure(&exact(scratch.path(), false), &["--dry-run"]);
    assert!(found["passes"].as_u64().unwrap() >= 5);
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_ends_a_training_with_130_and_leaves_nothing() {
    use std::process::{Command, Stdio};
    let scratch = tempfile::tempdir().unwrap();
    let (model, text, out) = (setting().join("moe"), setting().join("learn"), scratch.path().join("out"));
    let arguments =
        ["dictionary", "train", text_of(&model), "--text", text_of(&text), "--out", text_of(&out)];
    let mut command = Command::new(env!("CARGO_BIN_EXE_moescope"));
    command.args(arguments).args(["--site", SITE, "--size", "64", "--tokens", "500000000"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id().to_string();
    let listens = || {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 0b10 != 0 // signal 2
    };
    while !listens() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    assert!(said(&ended).contains("interrupted") && !out.exists(), "{ended:?}");
}
