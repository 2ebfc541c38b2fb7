//! `moescope routing --from`: one store, a hundred of its parts, and sums counted elsewhere give the same tables to the byte.

#![allow(clippy::unwrap_used)] // a test that cannot go on may panic

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use moescope::trace::{LayerRouting, RoutingTrace, TokenTable, write_trace};

/// Tokens of a document, in two windows.
const LENGTH: usize = 12;
const DOCUMENTS: usize = 100;

/// A number that looks random, by SplitMix64.
fn number(place: usize, limit: usize) -> usize {
    let start = (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let a = (start ^ start >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((b ^ b >> 31) % limit as u64) as usize
}

/// The routes of these documents through two layers; every number follows from the place of the token in the whole text.
fn trace(documents: std::ops::Range<usize>) -> RoutingTrace {
    let places: Vec<usize> = (documents.start * LENGTH..documents.end * LENGTH).collect();
    let of = |f: &dyn Fn(usize) -> u32| places.iter().map(|place| f(*place)).collect::<Vec<u32>>();
    let id = |place: usize| number(place, 50) as u32;
    let tokens = TokenTable {
        ids: of(&id),
        next_ids: of(&|place| id(place + 1)),
        domains: places.iter().map(|place| (place / LENGTH % 3) as u16).collect(),
        documents: of(&|place| (place / LENGTH - documents.start) as u32),
        positions: of(&|place| (place % (LENGTH / 2)) as u32),
        classes: places.iter().map(|place| (id(*place) % 2) as u16).collect(),
        domain_names: ["prose", "code", "poems"].map(String::from).to_vec(),
        class_names: ["even", "odd"].map(String::from).to_vec(),
    };
    let layer = |layer: usize| {
        let first = |place: usize| number(place * 7 + layer, 8) as u32;
        let choices = places.iter().flat_map(|place| {
            let first = first(*place);
            [first, (first + 1 + number(place * 5, 7) as u32) % 8]
        });
        let real =
            |scale: f32| places.iter().map(|p| scale * number(p * 3 + layer, 1000) as f32 / 999.0).collect();
        LayerRouting {
            layer: 2 * layer + 1,
            experts: 8,
            per_token: 2,
            choices: choices.collect(),
            weights: vec![0.5; 2 * places.len()],
            entropy: real(2.0),
            margin: real(0.1),
            relative_margin: real(0.01),
        }
    };
    RoutingTrace::new(tokens, vec![layer(0), layer(1)]).unwrap()
}

fn store(folder: &Path, documents: std::ops::Range<usize>) -> PathBuf {
    write_trace(folder, &trace(documents), None, "a model", "0.1.0").unwrap();
    folder.into()
}

fn count(from: &[PathBuf], out: &Path, more: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moescope"));
    command.arg("routing").arg("--from").args(from).arg("--out").arg(out);
    // So few that both tables and samples are cut.
    command.args(["--token-rows", "32", "--kept-paths", "64"]).args(more).output().unwrap()
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn tables(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(out.join("tables")).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    entries.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
}

#[test]
fn one_store_and_a_hundred_parts_and_sums_give_the_same_tables_to_the_byte() {
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name);
    let whole = store(&place("whole"), 0..DOCUMENTS);
    let mut parts: Vec<PathBuf> =
        (0..DOCUMENTS).map(|d| store(&place(&format!("part{d:03}")), d..d + 1)).collect();
    let ok = |output: std::process::Output| assert!(output.status.success(), "{}", said(&output));
    ok(count(&[whole], &place("of one"), &[]));
    let wanted = tables(&place("of one"));
    assert!(wanted.contains_key("counted_paths.parquet") && wanted.len() == 17, "{:?}", wanted.keys());
    ok(count(&parts, &place("of hundred"), &[]));
    assert!(tables(&place("of hundred")) == wanted);
    let report = fs::read_to_string(place("of one").join("report.html")).unwrap();
    for found in ["From token to token", "times an even share of the slots", "from the loads alone"] {
        assert!(report.contains(found), "{found}");
    }
    parts.reverse();
    // Sums of parts, counted again; and one count that goes on where an earlier call left off.
    ok(count(&parts[..30], &place("sums a"), &[]));
    ok(count(&parts[30..], &place("sums b"), &[]));
    ok(count(&[place("sums b"), place("sums a")], &place("of sums"), &[]));
    assert!(tables(&place("of sums")) == wanted);
    let again = count(&parts, &place("sums a"), &[]);
    assert!(again.status.code() == Some(2) && said(&again).contains("--resume"), "{}", said(&again));
    ok(count(&parts, &place("sums a"), &["--resume"]));
    assert!(tables(&place("sums a")) == wanted);
    let kept: Vec<String> = fs::read_dir(place("sums a"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("counts"))
        .collect();
    assert_eq!(kept.len(), 2, "one file of sums and what says so: {kept:?}");
}

#[test]
fn what_cannot_be_counted_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name);
    let first = store(&place("first"), 0..2);
    let refusal = |from: &[PathBuf], more: &[&str]| {
        let output = count(from, &place("out"), more);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        said(&output)
    };
    let twice = refusal(&[first.clone(), first.clone()], &[]);
    assert!(
        twice.contains("a second time") && twice.matches("/first").count() == 2,
        "names the folders: {twice}"
    );
    let ignored = [
        ["--permutations", "9"],
        ["--seed", "2"],
        ["--tokens", "9"],
        ["--positions", "9"],
        ["--max-memory", "1GiB"],
    ];
    for [option, value] in ignored {
        let told = refusal(std::slice::from_ref(&first), &[option, value]);
        assert!(told.contains(option) && told.contains("--from"), "{told}");
    }
    assert!(refusal(&[place("none")], &[]).contains("no recorded routes"));
    assert!(refusal(std::slice::from_ref(&first), &["--text", "x"]).contains("--text"));
    let second = store(&place("second"), 2..4);
    for (folder, hash) in [(&first, "same name @1a"), (&second, "same name @2b")] {
        let file = folder.join("manifest.json");
        let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        manifest["model_hash"] = hash.into();
        fs::write(&file, manifest.to_string()).unwrap();
    }
    let unlike = refusal(&[first.clone(), second], &[]);
    assert!(unlike.contains("same name") && unlike.contains("count one model at a time"), "{unlike}");
    fs::remove_dir_all(place("out")).ok();
    let other = count(&[first], &place("out"), &["--dry-run"]);
    assert!(other.status.success() && !place("out").exists());
    assert!(String::from_utf8_lossy(&other.stdout).contains("at most"));
    let mut plain = Command::new(env!("CARGO_BIN_EXE_moescope"));
    let plain = plain.args(["routing", "--out", "x"]).output().unwrap();
    assert!(plain.status.code() == Some(2) && said(&plain).contains("MODEL"), "{}", said(&plain));
}
