use super::finding::{Finding, Verdict};
use super::repository::{Repository, TextFile};

/// Beginnings of paths that exist on one machine only; put together so that this file may be checked too.
const PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/tmp/", "target"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
/// Hosts of package registries: which one serves a user is the user's own affair.
const HOSTS: [&str; 8] = [
    concat!("crates", ".io"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("deb.debian", ".org"),
    concat!("rubygems", ".org"),
    concat!("proxy.golang", ".org"),
];

/// Nothing in the repository names a place of one machine or the host of a registry.
///
/// Excepted are the lines of `Cargo.lock` that say where a package comes from: cargo writes them.
pub(super) fn check(repository: &Repository) -> Verdict {
    let findings: Vec<Finding> = repository.texts.iter().flat_map(in_file).collect();
    Verdict { check: "private places", figures: format!("{} text files", repository.texts.len()), findings }
}

fn in_file(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        if file.path.ends_with("Cargo.lock") && line.starts_with("source = ") {
            continue;
        }
        for path in PATHS.iter().filter(|path| begins_a_path(line, path)) {
            findings.push(Finding::new(&file.path, number, format!("`{path}` exists on one machine only")));
        }
        for host in HOSTS.iter().filter(|host| line.contains(**host)) {
            findings.push(Finding::new(&file.path, number, format!("`{host}` is the host of a registry")));
        }
    }
    findings
}

/// Whether `path` stands in the line without being the middle of a longer path.
fn begins_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !"._-/~$}".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_and_registry_hosts_are_found() {
        let text = format!("see {}main\nand {}-x\nfrom https://{}/a\n", PATHS[0], PATHS[1], HOSTS[3]);
        let verdict = check(&Repository::of(&[("docs/a.md", &text)]));
        assert_eq!(verdict.findings.iter().map(|f| f.line).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn inner_folders_and_the_sources_of_the_lock_file_are_fine() {
        let inner = format!("out{}a and $TMP{}b\n", PATHS[0], PATHS[0]);
        let lock =
            format!("name = \"a\"\nsource = \"registry+https://github.com/rust-lang/{}-index\"\n", HOSTS[0]);
        let verdict = check(&Repository::of(&[("a.md", &inner), ("Cargo.lock", &lock)]));
        assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    }
}
