//! Against a server on this machine that has the routes of the hub.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::Weights;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server has and does.
#[derive(Default)]
struct Plan {
    files: BTreeMap<String, Vec<u8>>,
    token: Option<String>,
    /// Bytes after which each answer with a large file breaks off.
    break_after: Option<usize>,
    /// The server sends other bytes than those it has named.
    damaging: bool,
    /// The server answers that it is out of order.
    broken: bool,
    /// The server sends whole files, whatever part is asked for.
    whole_only: bool,
    /// Bytes of large files that it could send before the connection was closed.
    served: usize,
}

struct Server {
    endpoint: String,
    plan: Arc<Mutex<Plan>>,
    /// First line of each request, then its range, then whether it brought a token.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(files: &[(&str, &[u8])]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let plan = Arc::new(Mutex::new(Plan { files, ..Plan::default() }));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = Server { endpoint, plan, seen };
        let (plan, seen) = (server.plan.clone(), server.seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = answer(stream.unwrap(), &plan, &seen);
            }
        });
        server
    }

    fn settings(&self, home: &Path, also: &[(&str, &str)]) -> HubSettings {
        HubSettings::from_variables(|name| match name {
            "HF_ENDPOINT" => Some(self.endpoint.clone()),
            "HF_HOME" => Some(home.display().to_string()),
            _ => also.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned()),
        })
    }

    fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// One request, one answer, and the connection is closed.
fn answer(mut stream: TcpStream, plan: &Mutex<Plan>, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let range = headers.get("range").cloned().unwrap_or_default();
    let token = headers.get("authorization").cloned();
    seen.lock().unwrap().push(format!("{first} {range} {}", token.is_some()));
    let mut plan = plan.lock().unwrap();
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut send = |status: &str, headers: &str, body: &[u8], said: usize| {
        write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {said}\r\n{headers}\r\n")?;
        if method == "GET" { stream.write_all(body) } else { Ok(()) }
    };
    if plan.broken {
        return send("503 Out Of Order", "", b"", 0);
    }
    if let Some(file) = path.strip_prefix("/elsewhere/") {
        let mut all = plan.files[file].clone();
        if plan.damaging {
            all[9] ^= 1;
        }
        let asked =
            range.strip_prefix("bytes=").filter(|_| !plan.whole_only).and_then(|range| range.split_once('-'));
        let from: usize = asked.map_or(0, |(from, _)| from.parse().unwrap());
        let end = asked
            .and_then(|(_, last)| last.parse().ok())
            .map_or(all.len(), |last: usize| all.len().min(last + 1));
        let (status, rest) =
            (if asked.is_some() { "206 Partial Content" } else { "200 OK" }, &all[from..end]);
        let cut = plan.break_after.unwrap_or(usize::MAX).min(rest.len());
        let place = format!("content-range: bytes {from}-{}/{}\r\n", end - 1, all.len());
        send(status, &place, b"", rest.len())?;
        for piece in rest[..cut].chunks(1 << 16) {
            stream.write_all(piece)?;
            plan.served += piece.len();
        }
        return Ok(());
    }
    if plan.token.as_ref().is_some_and(|wanted| token != Some(format!("Bearer {wanted}"))) {
        return send("401 Unauthorized", "", b"", 0);
    }
    if path == "/api/models/org/model/revision/main"
        || path == format!("/api/models/org/model/revision/{COMMIT}")
    {
        let files: Vec<_> = plan.files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        let body = serde_json::json!({"sha": COMMIT, "siblings": files}).to_string();
        return send("200 OK", "", body.as_bytes(), body.len());
    }
    let file = path.strip_prefix(&format!("/org/model/resolve/{COMMIT}/")).unwrap_or_default();
    match plan.files.get(file) {
        None => send("404 Not Found", "", b"", 0),
        Some(bytes) if file.ends_with(".json") => send(
            "200 OK",
            &format!("etag: W/\"{}\"\r\nx-repo-commit: {COMMIT}\r\n", name_of(bytes, 40)),
            bytes,
            bytes.len(),
        ),
        Some(bytes) => {
            let (size, hash) = (bytes.len(), name_of(bytes, 64));
            let about = format!(
                "location: /elsewhere/{file}\r\nx-linked-etag: \"{hash}\"\r\nx-linked-size: {size}\r\nx-repo-commit: {COMMIT}\r\n"
            );
            send("302 Found", &about, b"", 0)
        }
    }
}

/// What the hub calls a content: its hash of so many digits.
fn name_of(bytes: &[u8], digits: usize) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    content::hash_like(&"0".repeat(digits), file.path()).unwrap().unwrap()
}

/// A safetensors file of one tensor with so many bytes.
fn weights_file(name: &str, bytes: usize) -> Vec<u8> {
    let header = format!(r#"{{"{name}":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend((0..bytes).map(|n| (n % 251) as u8));
    file
}

fn quiet() -> impl FnMut(&DownloadProgress) {
    |_: &DownloadProgress| {}
}

#[test]
fn a_model_is_fetched_once_into_the_layout_of_the_cache() {
    let file = weights_file("x", 1000);
    let server = Server::start(&[
        ("config.json", b"{}"),
        ("model.safetensors", &file),
        ("README.md", b"not fetched"),
        ("../../escape.json", b"never"),
    ]);
    let home = tempfile::tempdir().unwrap();
    let settings = server.settings(home.path(), &[]);
    let mut told = Vec::new();
    let found = locate("org/model", &settings, &mut |progress| told.push(progress.clone())).unwrap();
    let folder = home.path().join("hub/models--org--model");
    assert_eq!(found, folder.join("snapshots").join(COMMIT));
    assert_eq!(fs::read(found.join("model.safetensors")).unwrap(), file);
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    let blobs: Vec<_> =
        fs::read_dir(folder.join("blobs")).unwrap().map(|blob| blob.unwrap().file_name()).collect();
    assert_eq!(blobs.len(), 2, "{blobs:?}");
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(found.join("config.json")).unwrap(),
        // What `git hash-object` says of a file with `{}`.
        Path::new("../../blobs/9e26dfeeb6e641a33dae4961196235bdb965b21b")
    );
    assert!(!found.join("README.md").exists());
    let last = told.last().unwrap();
    assert_eq!((last.file.as_str(), last.number, last.files), ("model.safetensors", 2, 2));
    assert_eq!((last.done, last.total), (file.len() as u64, Some(file.len() as u64)));

    // What is there is asked for no more: for a branch its commit is, for a commit nothing.
    server.take_seen();
    assert_eq!(locate("org/model", &settings, &mut quiet()).unwrap(), found);
    assert_eq!(server.take_seen().len(), 1);
    let exact = format!("org/model@{COMMIT}");
    assert_eq!(locate(&exact, &settings, &mut quiet()).unwrap(), found);
    assert_eq!(locate("org/model", &settings.without_network(), &mut quiet()).unwrap(), found);
    assert!(server.take_seen().is_empty());
    assert_eq!(Weights::open(&found).unwrap().names().collect::<Vec<_>>(), ["x"]);
}

#[test]
fn shards_are_those_of_the_index_and_a_token_goes_to_the_hub_alone() {
    let index = br#"{"weight_map": {"a": "s-1.safetensors", "b": "s-2.safetensors"}}"#;
    let (first, second) = (weights_file("a", 10), weights_file("b", 11));
    let server = Server::start(&[
        ("model.safetensors.index.json", index),
        ("s-1.safetensors", &first),
        ("s-2.safetensors", &second),
        ("s-3.safetensors", b"not of the index"),
    ]);
    server.plan.lock().unwrap().token = Some("secret".into());
    let home = tempfile::tempdir().unwrap();
    let error =
        locate("org/model", &server.settings(home.path(), &[]), &mut quiet()).unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("HF_TOKEN"), "{error}");
    let settings = server.settings(home.path(), &[("HF_TOKEN", "secret")]);
    let found = locate("org/model", &settings, &mut quiet()).unwrap();
    assert_eq!(Weights::open(&found).unwrap().names().collect::<Vec<_>>(), ["a", "b"]);
    assert!(!found.join("s-3.safetensors").exists());
    let seen = server.take_seen();
    let (elsewhere, hub): (Vec<_>, Vec<_>) = seen.iter().partition(|line| line.contains("/elsewhere/"));
    assert!(elsewhere.len() == 2 && elsewhere.iter().all(|line| line.ends_with("false")), "{seen:?}");
    assert!(hub.iter().filter(|line| line.ends_with("true")).count() >= 6, "{seen:?}");
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    let file = weights_file("x", 300_000);
    let server = Server::start(&[("config.json", b"{}"), ("model.safetensors", &file)]);
    server.plan.lock().unwrap().break_after = Some(100_000);
    let home = tempfile::tempdir().unwrap();
    let settings = server.settings(home.path(), &[]);
    let found = locate("org/model", &settings, &mut quiet()).unwrap();
    assert_eq!(fs::read(found.join("model.safetensors")).unwrap(), file);
    let resumed: Vec<String> =
        server.take_seen().into_iter().filter(|line| line.contains("bytes=")).collect();
    assert!(resumed.iter().any(|line| line.contains("bytes=100000-")), "{resumed:?}");

    // A later program goes on with what an earlier one has left.
    let again = tempfile::tempdir().unwrap();
    let blobs = again.path().join("hub/models--org--model/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", name_of(&file, 64))), &file[..250_000]).unwrap();
    let found = locate("org/model", &server.settings(again.path(), &[]), &mut quiet()).unwrap();
    assert_eq!(fs::read(found.join("model.safetensors")).unwrap(), file);
    assert!(server.take_seen().iter().any(|line| line.contains("bytes=250000-")));
}

#[test]
fn a_file_that_is_not_what_the_hub_names_is_refused_and_removed() {
    let file = weights_file("x", 5000);
    let server = Server::start(&[("config.json", b"{}"), ("model.safetensors", &file)]);
    server.plan.lock().unwrap().damaging = true;
    let home = tempfile::tempdir().unwrap();
    let settings = server.settings(home.path(), &[]);
    let error = locate("org/model", &settings, &mut quiet()).unwrap_err().to_string();
    assert!(error.contains(&name_of(&file, 64)) && error.contains("fetch it again"), "{error}");
    let blobs = home.path().join("hub/models--org--model/blobs");
    let left: Vec<_> = fs::read_dir(&blobs).unwrap().map(|blob| blob.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(&name_of(&file, 64))), "{left:?}");
    server.plan.lock().unwrap().damaging = false;
    let found = locate("org/model", &settings, &mut quiet()).unwrap();
    assert_eq!(fs::read(found.join("model.safetensors")).unwrap(), file);
}

#[test]
fn what_cannot_be_had_is_said_and_what_is_cached_is_used() {
    let file = weights_file("x", 10);
    let server = Server::start(&[("config.json", b"{}"), ("model.safetensors", &file)]);
    let home = tempfile::tempdir().unwrap();
    let settings = server.settings(home.path(), &[]);
    let refused = |model: &str, settings: &HubSettings, part: &str| {
        let error = locate(model, settings, &mut quiet()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused("org/model", &settings.clone().without_network(), "HF_HUB_OFFLINE forbids");
    refused("org/other", &settings, "404");
    refused("nowhere", &settings, "no file or folder `nowhere`");
    let found = locate("org/model", &settings, &mut quiet()).unwrap();
    server.plan.lock().unwrap().broken = true;
    assert_eq!(locate("org/model", &settings, &mut quiet()).unwrap(), found);
    refused("org/other", &settings, "cannot reach the hub");
    let plan = &mut *server.plan.lock().unwrap();
    plan.broken = false;
    plan.files = [("a.gguf".to_owned(), Vec::new()), ("b.gguf".to_owned(), Vec::new())].into();
    fs::remove_dir_all(home.path().join("hub")).unwrap();
}

#[test]
fn several_gguf_files_are_not_chosen_from() {
    let server = Server::start(&[("a.Q4_0.gguf", b"x"), ("a.Q8_0.gguf", b"x")]);
    let home = tempfile::tempdir().unwrap();
    let error =
        locate("org/model", &server.settings(home.path(), &[]), &mut quiet()).unwrap_err().to_string();
    assert!(error.contains("a.Q4_0.gguf, a.Q8_0.gguf"), "{error}");
}

#[test]
fn a_path_wins_over_a_name_and_needs_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let nobody =
        HubSettings::from_variables(|name| (name == "HF_ENDPOINT").then(|| "http://127.0.0.1:9".into()));
    let path = folder.path().to_str().unwrap();
    assert_eq!(locate(path, &nobody, &mut quiet()).unwrap(), folder.path());
}

/// A safetensors file with many names, so that its header is longer than what is asked for first.
fn long_header_file(tensors: usize, bytes: usize) -> Vec<u8> {
    let entries: Vec<String> = (0..tensors)
        .map(|n| {
            let (from, to) = (n * bytes, (n + 1) * bytes);
            format!(
                r#""model.layers.{n}.weight":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[{from},{to}]}}"#
            )
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + tensors * bytes, 7);
    file
}

#[test]
fn of_weights_that_are_not_here_only_headers_are_fetched() {
    let index = br#"{"weight_map": {"x": "s-1.safetensors", "model.layers.0.weight": "s-2.safetensors"}}"#;
    let (first, second) = (weights_file("x", 3_000_000), long_header_file(2000, 1000));
    let header = second.len() - 2_000_000;
    assert!(header > 1 << 16);
    let server = Server::start(&[
        ("config.json", b"{}"),
        ("tokenizer.json", b"{\"a\": 1}"),
        ("model.safetensors.index.json", index),
        ("s-1.safetensors", &first),
        ("s-2.safetensors", &second),
    ]);
    let home = tempfile::tempdir().unwrap();
    let settings = server.settings(home.path(), &[]);
    let outline = locate_headers("org/model", &settings, false, &mut quiet()).unwrap();
    assert_eq!(
        server.plan.lock().unwrap().served,
        (1 << 16) + header,
        "the first piece of one, the header of the other"
    );
    assert!(!outline.is_whole() && outline.unranged().is_empty());
    let weights = Weights::open(outline.path()).unwrap();
    assert_eq!((weights.names().count(), weights.bytes()), (2001, 5_000_000));
    assert_eq!(weights.tensor("x").unwrap().shape(), [3_000_000]);
    assert!(outline.path().join("config.json").exists() && !outline.path().join("tokenizer.json").exists());
    let place = outline.path().to_owned();
    drop((weights, outline));
    assert!(!place.exists(), "it leaves nothing behind");

    // Text needs the tokenizer, and a shard that is in the cache is read there.
    let snapshot = home.path().join("hub/models--org--model/snapshots").join(COMMIT);
    fs::write(snapshot.join("s-2.safetensors"), &second).unwrap();
    server.plan.lock().unwrap().served = 0;
    let outline = locate_headers("org/model", &settings, true, &mut quiet()).unwrap();
    assert!(outline.path().join("tokenizer.json").exists());
    assert_eq!(server.plan.lock().unwrap().served, 1 << 16);

    // The whole model is fetched as ever, and is then all that is looked at.
    let found = locate("org/model", &settings, &mut quiet()).unwrap();
    assert_eq!(fs::read(found.join("s-1.safetensors")).unwrap(), first);
    server.plan.lock().unwrap().served = 0;
    let whole = locate_headers("org/model", &settings, true, &mut quiet()).unwrap();
    assert!(whole.is_whole() && whole.path() == found && server.plan.lock().unwrap().served == 0);
    drop(whole);
    assert!(found.exists());
}

#[test]
fn a_server_without_ranges_is_read_up_to_the_header_and_this_is_told() {
    let file = weights_file("x", 48 << 20);
    let server = Server::start(&[("config.json", b"{}"), ("model.safetensors", &file)]);
    server.plan.lock().unwrap().whole_only = true;
    let home = tempfile::tempdir().unwrap();
    let outline =
        locate_headers("org/model", &server.settings(home.path(), &[]), false, &mut quiet()).unwrap();
    assert_eq!(outline.unranged(), ["model.safetensors"]);
    assert_eq!(Weights::open(outline.path()).unwrap().bytes(), 48 << 20);
    // What the buffers of the system take is sent in any case.
    let served = server.plan.lock().unwrap().served;
    assert!(served < 24 << 20, "{served}");
}

#[test]
fn the_header_of_a_gguf_file_is_read_to_its_end_and_a_broken_one_no_further() {
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    text(&mut file, "a.long.text");
    file.extend(8_u32.to_le_bytes());
    text(&mut file, &"y".repeat(300_000));
    text(&mut file, "x");
    file.extend(1_u32.to_le_bytes());
    file.extend(1_000_000_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32) + 4_000_000, 1);
    let server = Server::start(&[("m.gguf", &file)]);
    let home = tempfile::tempdir().unwrap();
    let settings = server.settings(home.path(), &[]);
    let outline = locate_headers("org/model", &settings, false, &mut quiet()).unwrap();
    let weights = Weights::open(outline.path()).unwrap();
    assert_eq!(weights.tensor("x").unwrap().shape(), [1_000_000]);
    assert_eq!(weights.metadata().unwrap().text("a.long.text").map(str::len), Some(300_000));
    assert_eq!(server.plan.lock().unwrap().served, 1 << 20);

    server.plan.lock().unwrap().served = 0;
    server.plan.lock().unwrap().files.get_mut("m.gguf").unwrap()[0] = b'X';
    let error = locate_headers("org/model", &settings, false, &mut quiet()).unwrap_err().to_string();
    assert!(error.contains("m.gguf") && error.contains("GGUF"), "{error}");
    assert_eq!(server.plan.lock().unwrap().served, 1 << 16);
}
