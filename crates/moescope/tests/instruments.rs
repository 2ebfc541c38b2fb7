//! The table of instruments in the documentation is the one that the code makes.

use moescope::analysis::instrument::{About, CASE};
use moescope::instruments_page::instruments_page;

const PAGE: &str = include_str!("../../../docs/instruments.md");

#[test]
fn the_page_of_instruments_is_up_to_date() {
    let abouts: Vec<About> = CASE.iter().map(|instrument| instrument.about()).collect();
    let made = instruments_page(&abouts);
    let (_, rest) = PAGE.split_once("<!-- made from the instruments -->\n\n").unwrap();
    let (found, _) = rest.split_once("\n<!-- end -->").unwrap();
    assert_eq!(
        found, made,
        "the table of docs/instruments.md is not that of the instruments; put there:\n{made}"
    );
}
