//! The tables of instruments in the documentation are those that the code makes.

use moescope::analysis::instrument::{About, CASE};
use moescope::instruments_page::{instruments_page, tables_page};

const PAGE: &str = include_str!("../../../docs/instruments.md");

/// Holds the part of the page after a marker against what the code makes.
fn assert_up_to_date(marker: &str, make: fn(&[About]) -> String) {
    let abouts: Vec<About> = CASE.iter().map(|instrument| instrument.about()).collect();
    let made = make(&abouts);
    let (_, rest) = PAGE.split_once(&format!("<!-- {marker} -->\n\n")).expect("the page has the marker");
    let (found, _) = rest.split_once("\n<!-- end -->").expect("the part has an end");
    assert_eq!(
        found, made,
        "the table after `{marker}` in docs/instruments.md is not that of the instruments; put there:\n{made}"
    );
}

#[test]
fn the_page_of_instruments_is_up_to_date() {
    assert_up_to_date("made from the instruments", instruments_page);
}

#[test]
fn the_page_says_of_every_table_what_its_instrument_says() {
    assert_up_to_date("made from what they give", tables_page);
}
