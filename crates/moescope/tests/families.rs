//! The table of families in the documentation is the one that the code makes.

use assert_cmd::Command;
use moescope::families_page::families_page;
use moescope::model::{family_support, supported_families};

const PAGE: &str = include_str!("../../../docs/families.md");

#[test]
fn the_page_of_families_is_up_to_date() {
    let made = families_page(&family_support());
    let (_, rest) = PAGE.split_once("<!-- made by `moescope inspect --families` -->\n\n").unwrap();
    let (found, _) = rest.split_once("\n<!-- end -->").unwrap();
    for (number, (found, made)) in found.lines().zip(made.lines()).enumerate() {
        assert_eq!(
            found, made,
            "line {number} of the tables in docs/families.md; put there what the command prints"
        );
    }
    assert_eq!(found.lines().count(), made.lines().count());
}

#[test]
fn each_family_has_its_traps_told() {
    for family in supported_families() {
        assert!(
            PAGE.contains(&format!("\n### `{family}`\n")),
            "docs/families.md has no section about {family}"
        );
    }
}

#[test]
fn families_are_printed_for_people_and_for_programs() {
    let inspect = |arguments: &[&str]| {
        Command::cargo_bin("moescope").unwrap().arg("inspect").args(arguments).output().unwrap()
    };
    let said = inspect(&["--families"]);
    assert!(said.status.success());
    assert_eq!(
        String::from_utf8(said.stdout).unwrap().trim_end(),
        families_page(&family_support()).trim_end()
    );
    let read: serde_json::Value = serde_json::from_slice(&inspect(&["--families", "--json"]).stdout).unwrap();
    assert_eq!(read.as_array().unwrap().len(), supported_families().len());
    assert_eq!(read[0]["model_type"], supported_families()[0]);
    for refused in [&["--families", "folder"][..], &[]] {
        assert_eq!(inspect(refused).status.code(), Some(2));
    }
}
