//! Models in every form in which a command takes them.

#![allow(clippy::unwrap_used)] // a test that cannot go on may panic

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// The program with a cache of its own, and without the network.
fn moescope(home: &Path) -> Command {
    let mut command = Command::cargo_bin("moescope").unwrap();
    command.env("HF_HOME", home).env_remove("HF_HUB_CACHE").env("HF_HUB_OFFLINE", "1");
    command
}

fn inspected(home: &Path, model: &str) -> Value {
    let output = moescope(home).args(["inspect", model, "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_gguf_file_is_inspected_and_exported_as_the_folder_that_it_was() {
    let home = tempfile::tempdir().unwrap();
    let (file, folder) = (fixture("gguf/qwen3_moe.gguf"), fixture("gguf/qwen3_moe"));
    let (of_file, of_folder) =
        [file.as_path(), folder.as_path()].map(|path| inspected(home.path(), path.to_str().unwrap())).into();
    assert_eq!(of_file, of_folder);
    assert_eq!((of_file["family"].as_str(), of_file["experts"].as_u64()), (Some("qwen3_moe"), Some(4)));
    let out = home.path().join("out");
    let export = |from: &Path| {
        let _ = fs::remove_dir_all(&out);
        let done = moescope(home.path()).arg("export").arg(from).arg("--out").arg(&out).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        fs::read(out.join("model.safetensors")).unwrap()
    };
    assert_eq!(export(&file), export(&folder));
}

#[test]
fn a_name_is_looked_up_in_the_cache_and_a_folder_of_that_name_wins() {
    let home = tempfile::tempdir().unwrap();
    let missing = moescope(home.path()).args(["inspect", "org/model"]).output().unwrap();
    let said = String::from_utf8_lossy(&missing.stderr);
    assert_eq!(missing.status.code(), Some(2));
    assert!(said.contains("org/model@main") && said.contains("HF_HUB_OFFLINE"), "{said}");

    let cached = home.path().join("hub/models--org--model");
    let snapshot = cached.join("snapshots/0123456789abcdef0123456789abcdef01234567");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(cached.join("refs")).unwrap();
    fs::write(cached.join("refs/main"), "0123456789abcdef0123456789abcdef01234567").unwrap();
    copy(&fixture("gguf/mixtral"), &snapshot);
    assert_eq!(inspected(home.path(), "org/model")["family"], "mixtral");
    assert_eq!(inspected(home.path(), "org/model@main")["family"], "mixtral");

    let here = tempfile::tempdir().unwrap();
    fs::create_dir_all(here.path().join("org/model")).unwrap();
    copy(&fixture("gguf/qwen3"), &here.path().join("org/model"));
    let mut command = moescope(home.path());
    let output = command.current_dir(here.path()).args(["inspect", "org/model", "--json"]).output().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["family"], "qwen3");
}

#[test]
fn what_is_no_model_is_refused_with_the_forms_that_are_taken() {
    let home = tempfile::tempdir().unwrap();
    for command in [vec!["inspect", "nowhere"], vec!["record", "nowhere", "--list-hooks"]] {
        let output = moescope(home.path()).args(&command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2));
        assert!(said.contains("nowhere") && said.contains("org/name[@revision]"), "{said}");
    }
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
