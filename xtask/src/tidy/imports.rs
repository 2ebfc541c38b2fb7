use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::finding::{Finding, Verdict};

/// Which crate may import which, as `(crate, imports, imports that its tests may have besides)`.
///
/// The arrows point the way results flow, so a crate can be read, tested and replaced knowing only those before it.
/// Tests are freer in two places: what records and what analyses may be tried on a real model.
const MAY_IMPORT: [(&str, &[&str], &[&str]); 14] = [
    ("base", &[], &[]),
    ("host", &[], &[]),
    ("engine", &[], &[]),
    ("corpus", &["base"], &[]),
    ("weights", &["host"], &[]),
    ("dictionary", &["base", "engine", "host", "weights"], &[]),
    ("model", &["base", "engine", "host", "weights"], &[]),
    ("train", &["base", "corpus", "engine", "host", "model"], &[]),
    ("trace", &["base", "host"], &["corpus", "engine", "model"]),
    ("analysis", &["base", "dictionary", "engine", "trace"], &["corpus", "model"]),
    ("study", &["analysis", "base", "corpus", "engine", "host", "model", "trace", "train"], &[]),
    ("report", &["base"], &[]),
    (
        "moescope",
        &[
            "analysis",
            "base",
            "corpus",
            "dictionary",
            "engine",
            "host",
            "model",
            "report",
            "study",
            "trace",
            "train",
            "weights",
        ],
        &[],
    ),
    ("xtask", &["analysis", "base", "corpus", "engine", "model", "report", "study", "trace", "train"], &[]),
];

/// A crate of the workspace and which others it imports; names without `moescope-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) imports: Vec<String>,
    pub(super) test_imports: Vec<String>,
}

/// Asks cargo for the crates of the workspace.
///
/// # Errors
/// If cargo cannot be run or does not understand the workspace.
pub(super) fn packages(root: &Path) -> Result<Vec<Package>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("running `cargo metadata`")?;
    ensure!(output.status.success(), "`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading `cargo metadata`")?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    Ok(packages.iter().map(package).collect())
}

fn package(described: &Value) -> Package {
    let short =
        |value: &Value| value["name"].as_str().unwrap_or_default().trim_start_matches("moescope-").to_owned();
    let mut package = Package { name: short(described), imports: Vec::new(), test_imports: Vec::new() };
    for dependency in described["dependencies"].as_array().into_iter().flatten() {
        match (dependency["path"].is_string(), dependency["kind"].as_str()) {
            (false, _) => {}
            (true, Some("dev")) => package.test_imports.push(short(dependency)),
            (true, _) => package.imports.push(short(dependency)),
        }
    }
    package
}

/// Imports run in one direction only.
pub(super) fn check(packages: &[Package]) -> Verdict {
    let count: usize = packages.iter().map(|package| package.imports.len()).sum();
    Verdict {
        check: "imports",
        figures: format!("{} crates, {count} imports between them", packages.len()),
        findings: packages.iter().flat_map(of_package).collect(),
    }
}

fn of_package(package: &Package) -> Vec<Finding> {
    let manifest = match package.name.as_str() {
        "xtask" => "xtask/Cargo.toml".to_owned(),
        "moescope" => "crates/moescope/Cargo.toml".to_owned(),
        name => format!("crates/moescope-{name}/Cargo.toml"),
    };
    let Some((_, allowed, allowed_in_tests)) = MAY_IMPORT.iter().find(|(name, ..)| *name == package.name)
    else {
        return vec![Finding::new(
            &manifest,
            1,
            "has no place in the table of imports (xtask/src/tidy/imports.rs)",
        )];
    };
    let wrong = package.imports.iter().filter(|import| !allowed.contains(&import.as_str()));
    let wrong_in_tests = package.test_imports.iter().filter(|import| {
        **import != package.name
            && !allowed.contains(&import.as_str())
            && !allowed_in_tests.contains(&import.as_str())
    });
    let say = |import: &String, whose: &str| {
        let may = allowed.join(", ");
        Finding::new(&manifest, 1, format!("{whose} may not import `{import}`; it may import: {may}"))
    };
    let mut findings: Vec<Finding> = wrong.map(|import| say(import, &package.name)).collect();
    findings.extend(wrong_in_tests.map(|import| say(import, &format!("{}, tests included,", package.name))));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, imports: &[&str], test_imports: &[&str]) -> Package {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Package { name: name.into(), imports: owned(imports), test_imports: owned(test_imports) }
    }

    #[test]
    fn an_import_against_the_flow_is_found() {
        let verdict = check(&[
            package("report", &["base", "model"], &[]),
            package("analysis", &["report"], &["train"]),
            package("study", &["moescope"], &["moescope"]),
            package("unheard-of", &[], &[]),
        ]);
        assert_eq!(verdict.findings.len(), 6, "{:?}", verdict.findings);
        assert_eq!(verdict.findings[0].path, "crates/moescope-report/Cargo.toml");
    }

    #[test]
    fn imports_along_the_flow_are_fine_and_tests_are_freer() {
        let verdict = check(&[
            package("base", &[], &["base"]),
            package("trace", &["base"], &["model"]),
            package("moescope", &["study", "report"], &[]),
        ]);
        assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    }

    #[test]
    fn the_table_has_no_circle() {
        let place = |name: &str| MAY_IMPORT.iter().position(|(other, ..)| *other == name);
        for (name, imports, test_imports) in MAY_IMPORT {
            for import in imports.iter().chain(test_imports) {
                assert!(place(import) < place(name), "{name} imports {import}");
            }
        }
    }

    #[test]
    fn cargo_describes_this_workspace() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let packages = packages(root).unwrap();
        let model = packages.iter().find(|package| package.name == "model").unwrap();
        assert!(model.imports.contains(&"engine".to_owned()));
        assert!(!packages.iter().any(|package| package.imports.contains(&"moescope".to_owned())));
    }
}
