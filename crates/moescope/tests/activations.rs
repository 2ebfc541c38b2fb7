//! Recording activations of a corpus, as a user meets it: plan, interruptions, bounds of memory, and what is left on the disk.

#![allow(clippy::unwrap_used)] // a test that cannot go on may panic

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use assert_cmd::Command;
use moescope::base::{HookPoint, ValueData};
use moescope::trace::{ActivationFolder, Kept};
use serde_json::Value;

/// A small trained run and two texts, made once for all tests.
struct Setting {
    folder: tempfile::TempDir,
}

impl Setting {
    fn get() -> &'static Setting {
        static SETTING: OnceLock<Setting> = OnceLock::new();
        SETTING.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let config = folder.path().join("run.toml");
            let toml = "[model]\nfamily = \"moe\"\nd_model = 16\nlayers = 2\nheads = 2\nd_ff = 32\nexpansion = 2\ngranularity = 2\n\
                        [data]\ncorpus = \"embedded\"\nvocab = 300\npositions = 16\nevaluation_windows = 2\n\
                        [training]\nsteps = 2\nbatch = 4\nlearning_rate = 1e-3\nseed = 1\n";
            fs::write(&config, toml).unwrap();
            let text = folder.path().join("text");
            fs::create_dir_all(text.join("birds")).unwrap();
            for (name, times) in [("birds/a.txt", 25), ("birds/b.txt", 40), ("loose.txt", 30)] {
                let words = |i: usize| format!("Heron {i} stands in the reeds of pond {} and waits. ", i * 7 % 11);
                fs::write(text.join(name), (0..times).map(words).collect::<String>()).unwrap();
            }
            let lines: String = (0..12000)
                .map(|i| format!("{{\"text\":\"The {i}th of the numbers is {} and not {}; it is known for that.\"}}\n", i * i, i + 1))
                .collect();
            fs::write(folder.path().join("long.jsonl"), lines).unwrap();
            let setting = Setting { folder };
            let done = call(&["train", "--config", text_of(&config), "--out", text_of(&setting.path("run"))]);
            assert!(done.status.success(), "{}", said(&done));
            setting
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn call(arguments: &[&str]) -> Output {
    Command::cargo_bin("moescope").unwrap().arg("--no-progress").args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The arguments of a recording of some sites, single experts included, into a folder.
fn arguments<'a>(corpus: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    static RUN: OnceLock<String> = OnceLock::new();
    let run = RUN.get_or_init(|| text_of(&Setting::get().path("run")).to_owned());
    let hooks = "blocks.*.hook_resid_post,blocks.1.mlp.router.hook_indices,blocks.0.mlp.experts.*.hook_post,blocks.0.attn.hook_pattern";
    let fixed = [
        "--json",
        "record",
        run,
        "--corpus",
        text_of(corpus),
        "--positions",
        "16",
        "--hooks",
        hooks,
        "--out",
        text_of(out),
    ];
    [&fixed[..], more].concat()
}

/// Every file of a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
    };
    fs::read_dir(folder).unwrap().map(entry).collect()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_corpus_is_recorded_whole_and_sampled_and_the_plan_holds() {
    let (setting, scratch) = (Setting::get(), tempfile::tempdir().unwrap());
    for (name, options) in [("whole", vec![]), ("sample", vec!["--sample", "50", "--seed", "3"])] {
        let out = scratch.path().join(name);
        let corpus = setting.path("text");
        let plan = json(&call(&arguments(&corpus, &out, &[&options[..], &["--dry-run"]].concat())));
        assert!(!out.exists(), "a plan writes nothing");
        let manifest = json(&call(&arguments(&corpus, &out, &options)))["manifest"].clone();
        assert_eq!(manifest["kind"], "activations");
        assert_eq!(manifest["domain_names"].as_array().unwrap().len(), 2);
        let found: u64 = files(&out)
            .iter()
            .filter(|(name, _)| name.ends_with(".safetensors"))
            .map(|(_, bytes)| bytes.len() as u64)
            .sum();
        // The plan leaves out headers, and takes experts for as full as they may be.
        let planned = plan["disk"].as_u64().unwrap();
        assert!(
            found < planned + planned / 5 + 8192 && planned < found + found / 3,
            "{name}: {planned} and {found}"
        );
        assert!(plan["seconds"].as_f64().unwrap() > 0.0 && plan["peak"].as_u64().unwrap() > 1 << 20);
    }
    let open = |name: &str| ActivationFolder::open(&scratch.path().join(name)).unwrap();
    let (whole, sample) = (open("whole"), open("sample"));
    assert_eq!(sample.manifest().kept, Kept::Sample { rows: 50, seed: 3 });
    assert!(whole.documents().unwrap().iter().any(|document| document.name == "loose.txt"));
    let point: HookPoint = "blocks.1.hook_resid_post".parse().unwrap();
    let (all, some) = (whole.rows(point).unwrap(), sample.rows(point).unwrap());
    let ValueData::Real(all_numbers) = &all.data else { panic!("real") };
    let ValueData::Real(numbers) = &some.data else { panic!("real") };
    assert_eq!(numbers.len(), 50 * 16);
    for (i, row) in numbers.chunks(16).enumerate() {
        let place =
            |j: &usize| (all.documents[*j], all.positions[*j]) == (some.documents[i], some.positions[i]);
        let found = (0..all.documents.len()).find(place).unwrap();
        assert_eq!(all.token_ids[found], some.token_ids[i]);
        assert!(row.iter().zip(&all_numbers[found * 16..]).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

#[test]
fn threads_and_memory_change_no_byte() {
    let (setting, scratch) = (Setting::get(), tempfile::tempdir().unwrap());
    let corpus = setting.path("text");
    for options in [vec![], vec!["--sample", "40"]] {
        let mut all = Vec::new();
        for (number, more) in [vec!["--threads", "1"], vec!["--threads", "3"], vec!["--max-memory", "400MiB"]]
            .iter()
            .enumerate()
        {
            let out = scratch.path().join(format!("{}-{number}", options.len()));
            let done = call(&arguments(&corpus, &out, &[&options[..], more].concat()));
            assert!(done.status.success(), "{}", said(&done));
            all.push(files(&out));
        }
        assert!(all[0] == all[1] && all[0] == all[2], "{options:?}");
    }
}

/// Starts a recording, waits until `enough` windows must be on their way, and ends it with a signal.
#[cfg(target_os = "linux")]
fn ended_by(signal: &str, arguments: &[&str], out: &Path, enough: &str) -> Output {
    use std::process::{Command, Stdio};
    let mut command = Command::new(env!("CARGO_BIN_EXE_moescope"));
    let child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for _ in 0..4000 {
        if out.join(enough).exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    child.wait_with_output().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn what_is_interrupted_or_killed_goes_on_to_the_same_bytes() {
    let (setting, scratch) = (Setting::get(), tempfile::tempdir().unwrap());
    let corpus = setting.path("long.jsonl");
    for (name, options) in [("whole", vec![]), ("sample", vec!["--sample", "200"])] {
        let [plain, broken] = ["plain", "broken"].map(|kind| scratch.path().join(format!("{name}-{kind}")));
        assert!(call(&arguments(&corpus, &plain, &options)).status.success());
        let first = ended_by("-INT", &arguments(&corpus, &broken, &options), &broken, "recording.json");
        assert_eq!(first.status.code(), Some(130), "{}", said(&first));
        assert!(said(&first).contains("--resume"), "{}", said(&first));
        assert!(!broken.join("manifest.json").exists());
        assert!(
            matches!(ActivationFolder::open(&broken).unwrap_err().to_string(), text if text.contains("--resume"))
        );
        let again = call(&arguments(&corpus, &broken, &options));
        assert!(again.status.code() == Some(2) && said(&again).contains("--resume"), "{}", said(&again));
        let resumed = arguments(&corpus, &broken, &[&options[..], &["--resume"]].concat());
        let mut killed =
            std::process::Command::new(env!("CARGO_BIN_EXE_moescope")).args(&resumed).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        killed.kill().unwrap();
        killed.wait().unwrap();
        let term = ended_by("-TERM", &resumed, &broken, "recording.json");
        assert!(matches!(term.status.code(), Some(75 | 0) | None), "{}", said(&term));
        let done = call(&resumed);
        assert!(done.status.success(), "{}", said(&done));
        assert!(files(&plain) == files(&broken), "{name}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error_and_leaves_nothing_that_looks_whole() {
    let (setting, scratch) = (Setting::get(), tempfile::tempdir().unwrap());
    let (corpus, out) = (setting.path("text"), scratch.path().join("out"));
    // Files may not grow beyond 64 blocks of 512 bytes, and the system says so instead of ending the program.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$@\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_moescope")]).args(arguments(&corpus, &out, &[]));
    let full = command.output().unwrap();
    assert_eq!(full.status.code(), Some(2), "{}", said(&full));
    assert!(said(&full).contains("cannot write"), "{}", said(&full));
    assert!(!out.join("manifest.json").exists());
    assert!(!files(&out).keys().any(|name| name.starts_with("part-") || name.contains("unfinished")));
    let done = call(&arguments(&corpus, &out, &["--resume"]));
    assert!(done.status.success(), "{}", said(&done));
}

#[test]
fn wrong_calls_are_refused_and_leave_nothing() {
    let (setting, scratch) = (Setting::get(), tempfile::tempdir().unwrap());
    let (run, out) = (setting.path("run"), scratch.path().join("out"));
    let empty = scratch.path().join("empty");
    fs::create_dir_all(&empty).unwrap();
    let short = scratch.path().join("short.txt");
    fs::write(&short, "Too short.").unwrap();
    let text = setting.path("text");
    let refused = |corpus: &Path, hooks: &str, more: &[&str], words: &[&str]| {
        let fixed =
            ["record", text_of(&run), "--corpus", text_of(corpus), "--hooks", hooks, "--out", text_of(&out)];
        let output = call(&[&fixed[..], more].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(words.iter().all(|word| said(&output).contains(word)), "{words:?}: {}", said(&output));
        assert!(!out.exists(), "{words:?}");
    };
    refused(&text, "blocks.0.hook_resid_pots", &[], &["did you mean", "hook_resid_post"]);
    refused(&empty, "*", &[], &["no text", ".jsonl"]);
    refused(&short, "*", &["--positions", "16"], &["16 tokens", "--positions"]);
    refused(&text, "*", &["--sample", "0"], &["--sample"]);
    refused(&text, "*", &["--positions", "1"], &["--positions"]);
    refused(&text, "*", &["--grad", "loss"], &["--corpus"]);
    refused(&text, "*", &["--max-memory", "1MiB"], &["may take 1.0 MiB"]);
    let lone = call(&[
        "record",
        text_of(&run),
        "--text",
        text_of(&short),
        "--sample",
        "5",
        "--hooks",
        "*",
        "--out",
        text_of(&out),
    ]);
    assert!(lone.status.code() == Some(2) && said(&lone).contains("--corpus"), "{}", said(&lone));
    let full = scratch.path().join("full");
    fs::create_dir_all(&full).unwrap();
    fs::write(full.join("thesis.txt"), "precious").unwrap();
    let foreign = call(&arguments(&text, &full, &[]));
    assert!(foreign.status.code() == Some(2) && said(&foreign).contains("thesis.txt"), "{}", said(&foreign));
    assert_eq!(files(&full).len(), 1);
}

#[test]
fn near_ties_are_reported_by_record_and_by_routing() {
    let (setting, scratch) = (Setting::get(), tempfile::tempdir().unwrap());
    let (run, file) = (setting.path("run"), scratch.path().join("f.safetensors"));
    let text = setting.path("text/birds/a.txt");
    let arguments =
        ["record", text_of(&run), "--text", text_of(&text), "--hooks", "hook_embed", "--out", text_of(&file)];
    let found = json(&call(&[&["--json"][..], &arguments].concat()))["near_ties"].clone();
    assert_eq!(found["relative_error"]["bf16"].as_f64(), Some(1.0 / 256.0));
    let layers = found["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for layer in layers {
        let (wide, narrow) = (layer["bf16"].as_f64().unwrap(), layer["f32"].as_f64().unwrap());
        assert!((0.0..=1.0).contains(&wide) && narrow <= wide && layer["tokens"].as_u64().unwrap() > 10);
    }
    let plain = call(&arguments);
    assert!(String::from_utf8_lossy(&plain.stdout).contains("nearly tied in bf16"));
    // What was recorded for it and not asked for is not in the file.
    let names = moescope::trace::TensorReader::open(&file).unwrap();
    assert_eq!(names.names().collect::<Vec<_>>(), ["hook_embed", "input_ids", "logits", "loss"]);
    let corpus = scratch.path().join("corpus");
    fs::create_dir_all(corpus.join("birds")).unwrap();
    fs::copy(&text, corpus.join("birds/a.txt")).unwrap();
    let out = scratch.path().join("routes");
    let options = ["--positions", "16", "--permutations", "9"];
    let arguments = ["--json", "routing", text_of(&run), "--text", text_of(&corpus), "--out", text_of(&out)];
    let routed = json(&call(&[&arguments[..], &options].concat()));
    assert_eq!(routed["near_ties"]["layers"].as_array().unwrap().len(), 2);
    assert!(out.join("tables/routing_near_ties.parquet").exists());
}

#[test]
fn near_ties_of_a_corpus_are_reported_and_the_margins_kept() {
    let (setting, scratch) = (Setting::get(), tempfile::tempdir().unwrap());
    let (text, out) = (setting.path("text"), scratch.path().join("out"));
    let found = json(&call(&arguments(&text, &out, &["--sample", "20"])))["near_ties"].clone();
    let layers = found["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "one router is recorded, that of block 1");
    assert_eq!((layers[0]["layer"].as_u64(), layers[0]["tokens"].as_u64()), (Some(1), Some(20)));
    let margins = ActivationFolder::open(&out).unwrap().relative_margins(1).unwrap();
    let narrow = margins.iter().filter(|margin| **margin < 1.0 / 256.0).count() as f64;
    assert_eq!(layers[0]["bf16"].as_f64().unwrap(), narrow / 20.0);
}

/// Starts a command and ends it with a signal once it has said what it does.
#[cfg(target_os = "linux")]
fn ended_while(doing: &str, signal: &str, arguments: &[&str]) -> (Option<i32>, String) {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};
    let mut command = Command::new(env!("CARGO_BIN_EXE_moescope"));
    let mut child = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains(doing) && said.read_line(&mut text).unwrap() > 0 {}
    // Into the work, and far from its end on a fast machine.
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    said.read_to_string(&mut text).unwrap();
    (child.wait().unwrap().code(), text)
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupted_record_of_routes_goes_on_to_the_same_bytes() {
    let (setting, scratch) = (Setting::get(), tempfile::tempdir().unwrap());
    let [plain, broken] = ["plain", "broken"].map(|name| scratch.path().join(name));
    let (run, text) = (setting.path("run"), setting.path("long.jsonl"));
    let other_text = setting.path("text");
    let call_of = |out: &Path| -> Vec<String> {
        let fixed = ["routing", text_of(&run), "--text", text_of(&text), "--out", text_of(out)];
        let sizes = ["--positions", "16", "--permutations", "1", "--tokens", "150000"];
        [&fixed[..], &sizes].concat().into_iter().map(String::from).collect()
    };
    let (whole, first) = (call_of(&plain), call_of(&broken));
    let whole: Vec<&str> = whole.iter().map(String::as_str).collect();
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    let second = [&first[..], &["--resume"]].concat();
    let (code, message) = ended_while("recording routes", "-INT", &first);
    assert_eq!(code, Some(130), "{message}");
    assert!(message.contains("go on with --resume"), "{message}");
    assert!(!broken.join("report.html").exists() && broken.join("pieces").exists());
    let again = call(&first);
    assert!(again.status.code() == Some(2) && said(&again).contains("--resume"), "{}", said(&again));
    let other = [&second[..2], &["--text", text_of(&other_text)], &second[4..]].concat();
    let other = call(&other);
    assert!(
        other.status.code() == Some(2) && said(&other).contains("another model, text"),
        "{}",
        said(&other)
    );
    let (code, message) = ended_while("recording routes", "-TERM", &second);
    assert_eq!(code, Some(75), "{message}");
    assert!(call(&second).status.success());
    assert!(call(&whole).status.success());
    for folder in ["", "tables"] {
        let all = |out: &Path| -> BTreeMap<String, Vec<u8>> {
            let entries = fs::read_dir(out.join(folder)).unwrap().map(|entry| entry.unwrap().path());
            let kept = entries.filter(|path| path.is_file() && !path.ends_with("report.html"));
            kept.map(|path| {
                (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
            })
            .collect()
        };
        assert!(all(&plain) == all(&broken) && !all(&plain).is_empty(), "`{folder}`");
    }
    assert!(!broken.join("pieces").exists() && broken.join("report.html").exists());
}

#[test]
#[cfg(target_os = "linux")]
fn an_analysis_of_routes_that_is_ended_keeps_them() {
    let (setting, scratch) = (Setting::get(), tempfile::tempdir().unwrap());
    let (run, text, out) = (setting.path("run"), setting.path("text"), scratch.path().join("out"));
    let call_of = |permutations: &'static str, more: &[&'static str]| -> Vec<String> {
        let fixed =
            ["routing", text_of(&run), "--text", text_of(&text), "--out", text_of(&out), "--positions", "16"];
        let all = [&fixed[..], &["--permutations", permutations], more].concat();
        all.into_iter().map(String::from).collect()
    };
    // So many shuffles that they take minutes, whatever the machine.
    let long = call_of("999999", &[]);
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let (code, message) = ended_while("analysing", "-INT", &long);
    assert_eq!(code, Some(130), "{message}");
    assert!(message.contains("go on with --resume") && !out.join("report.html").exists(), "{message}");
    let short = call_of("9", &["--resume"]);
    let short: Vec<&str> = short.iter().map(String::as_str).collect();
    let done = call(&short);
    assert!(done.status.success() && out.join("report.html").exists(), "{}", said(&done));
}

#[test]
#[cfg(target_os = "linux")]
fn a_knockout_that_is_ended_says_so() {
    use std::process::{Command, Stdio};
    let (setting, scratch) = (Setting::get(), tempfile::tempdir().unwrap());
    let (run, text, out) = (setting.path("run"), setting.path("long.jsonl"), scratch.path().join("out"));
    let arguments =
        ["knockout", text_of(&run), "--experts", "1:0", "--text", text_of(&text), "--out", text_of(&out)];
    for (signal, code) in [("-INT", 130), ("-TERM", 75)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moescope"));
        // So many passes that even a fast machine is in the middle of them when the signal comes.
        command.args(arguments).args(["--positions", "16", "--tokens", "150000"]);
        command.args(["--vs", "random", "--matched", "60"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2500));
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{}", said(&ended));
        assert!(said(&ended).contains("interrupted") && !out.exists(), "{}", said(&ended));
    }
}
