//! Models by their names on the hub, from a server on this machine that has the hub's routes: what only looks ahead fetches headers.

#![allow(clippy::unwrap_used)] // a test that cannot go on may panic

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex, OnceLock};

use assert_cmd::Command;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A small trained run whose weights are longer than what is asked for first, and a text.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("run.toml");
        let toml =
            "[model]\nfamily = \"moe\"\nd_model = 32\nlayers = 2\nheads = 2\nd_ff = 128\nexpansion = 4\ngranularity = 1\n\
                    [data]\ncorpus = \"embedded\"\nvocab = 300\npositions = 16\nevaluation_windows = 2\n\
                    [training]\nsteps = 2\nbatch = 2\nlearning_rate = 1e-3\nseed = 1\n";
        fs::write(&config, toml).unwrap();
        let words = |i: usize| format!("Heron {i} stands in the reeds of pond {} and waits. ", i * 7 % 11);
        fs::write(folder.path().join("text.txt"), (0..40).map(words).collect::<String>()).unwrap();
        let mut train = Command::cargo_bin("moescope").unwrap();
        let run = folder.path().join("run");
        train.arg("train").arg("--config").arg(&config).arg("--out").arg(&run).assert().success();
        folder
    });
    folder.path()
}

/// The files of one repository, `org/model`, and how many bytes of weights were sent.
struct Hub {
    endpoint: String,
    sent: Arc<Mutex<usize>>,
}

impl Hub {
    fn start(files: BTreeMap<String, Vec<u8>>) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let sent = Arc::new(Mutex::new(0));
        let count = Arc::clone(&sent);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that has what it wanted closes the connection: no matter here.
                let _ = answer(stream.unwrap(), &files, &count);
            }
        });
        Hub { endpoint, sent }
    }

    /// The program with a cache of its own.
    fn call(&self, home: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::cargo_bin("moescope").unwrap();
        command.env("HF_HOME", home).env("HF_ENDPOINT", &self.endpoint);
        command.env_remove("HF_HUB_CACHE").env_remove("HF_HUB_OFFLINE").env_remove("HF_TOKEN");
        command.env("TMPDIR", home).args(arguments).output().unwrap()
    }

    fn taken(&self) -> usize {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }
}

/// One request, one answer, and the connection is closed.
fn answer(
    mut stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    sent: &Mutex<usize>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let headers: Vec<String> =
        lines.map_while(Result::ok).take_while(|line| !line.is_empty()).map(|l| l.to_lowercase()).collect();
    let (method, path) = first.split_once(' ').unwrap_or_default();
    let path = path.split(' ').next().unwrap_or_default();
    if path.starts_with("/api/models/org/model/revision/") {
        let names: Vec<_> = files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        let body = serde_json::json!({"sha": COMMIT, "siblings": names}).to_string();
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some(bytes) = files.get(name) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    };
    let range = headers.iter().find_map(|line| line.strip_prefix("range: bytes="));
    let ends = range.and_then(|range| range.split_once('-'));
    let from = ends.map_or(0, |(from, _)| from.parse().unwrap());
    let to = ends.and_then(|(_, last)| last.parse::<usize>().ok()).map_or(bytes.len(), |last| last + 1);
    let part = &bytes[from..to.min(bytes.len())];
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let place = match range {
        Some(_) => format!("content-range: bytes {from}-{}/{}\r\n", from + part.len() - 1, bytes.len()),
        None => String::new(),
    };
    let about = format!("etag: \"{}\"\r\nx-repo-commit: {COMMIT}\r\n{place}", name.replace('.', "-"));
    write!(
        stream,
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{about}\r\n",
        part.len()
    )?;
    if method == "GET" {
        if name.ends_with(".safetensors") {
            *sent.lock().unwrap() += part.len();
        }
        stream.write_all(part)?;
    }
    Ok(())
}

/// The files of the run, after a change to its configuration.
fn files(change: impl Fn(String) -> String) -> BTreeMap<String, Vec<u8>> {
    let read = |name: &str| fs::read(folder().join("run").join(name)).unwrap();
    let mut files: BTreeMap<String, Vec<u8>> = ["model.safetensors", "tokenizer.json"]
        .into_iter()
        .map(|name| (name.to_owned(), read(name)))
        .collect();
    let configuration = String::from_utf8(read("config.json")).unwrap();
    files.insert("config.json".into(), change(configuration).into_bytes());
    files
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_only_looks_ahead_fetches_headers_and_says_the_same_as_of_a_folder() {
    let (hub, home) = (Hub::start(files(|same| same)), tempfile::tempdir().unwrap());
    let (run, text, out) = (folder().join("run"), folder().join("text.txt"), home.path().join("out"));
    let [run, text, out] = [&run, &text, &out].map(|path| path.to_str().unwrap());
    let weights = fs::metadata(folder().join("run/model.safetensors")).unwrap().len() as usize;
    assert!(weights > 4 << 16, "{weights} bytes are too few to tell a header from the whole");
    let plan = ["--text", text, "--out", out, "--dry-run"];
    let calls: [Vec<&str>; 6] = [
        vec!["inspect", "MODEL", "--json"],
        vec!["record", "MODEL", "--list-hooks"],
        [&["record", "MODEL", "--hooks", "blocks.*.hook_resid_post"][..], &plan].concat(),
        [&["routing", "MODEL"][..], &plan].concat(),
        [&["analyze", "all", "MODEL"][..], &plan].concat(),
        [&["knockout", "MODEL", "--experts", "0:1"][..], &plan].concat(),
    ];
    // What does not depend on how fast this machine is.
    let lasting = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter(|l| !l.starts_with("time ") && !l.starts_with("memory "))
            .collect::<Vec<_>>()
            .join("\n")
    };
    for call in calls {
        let of =
            |model: &'static str| call.iter().map(move |word| if *word == "MODEL" { model } else { word });
        let named: Vec<&str> = of("org/model").collect();
        let found = hub.call(home.path(), &named);
        assert!(found.status.success(), "{named:?}: {}", said(&found));
        let there: Vec<&str> = call.iter().map(|word| if *word == "MODEL" { run } else { word }).collect();
        assert_eq!(lasting(&found), lasting(&hub.call(home.path(), &there)), "{named:?}");
        let taken = hub.taken();
        assert!(taken > 0 && taken <= 1 << 16, "{named:?} took {taken} of {weights} bytes");
        let left = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["hub"], "nothing but the cache is left");
    }
}

#[test]
fn what_computes_fetches_all_once_and_gives_the_values_of_the_folder() {
    let (hub, home) = (Hub::start(files(|same| same)), tempfile::tempdir().unwrap());
    let (run, text) = (folder().join("run"), folder().join("text.txt"));
    let weights = fs::metadata(run.join("model.safetensors")).unwrap().len() as usize;
    let recorded = |model: &str, name: &str| {
        let out = home.path().join(name);
        let arguments =
            ["record", model, "--text", text.to_str().unwrap(), "--hooks", "blocks.*.mlp.router.*"];
        let done = hub.call(home.path(), &[&arguments[..], &["--out", out.to_str().unwrap()]].concat());
        assert!(done.status.success(), "{}", said(&done));
        fs::read(out).unwrap()
    };
    let of_folder = recorded(run.to_str().unwrap(), "folder.safetensors");
    assert_eq!(hub.taken(), 0);
    assert!(recorded("org/model", "hub.safetensors") == of_folder);
    assert_eq!(hub.taken(), weights);
    assert!(recorded("org/model@main", "again.safetensors") == of_folder);
    assert_eq!(hub.taken(), 0, "it is in the cache");
}

#[test]
fn what_is_wrong_with_a_model_is_said_of_its_name() {
    let misspelt = |text: String| text.replace("\"qwen3_moe\"", "\"qwen3_mo\"");
    let (hub, home) = (Hub::start(files(misspelt)), tempfile::tempdir().unwrap());
    let found = hub.call(home.path(), &["inspect", "org/model"]);
    let message = said(&found);
    assert_eq!(found.status.code(), Some(2), "{message}");
    assert!(message.contains("org/model/config.json"), "{message}");
    assert!(message.contains("`qwen3_mo`") && message.contains("did you mean `qwen3_moe`?"), "{message}");
    assert!(
        !message.contains("moescope-headers") && !message.contains(home.path().to_str().unwrap()),
        "{message}"
    );
}
