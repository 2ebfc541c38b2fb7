//! What the bench found as a page of Markdown: the generated part of `docs/validity.md`.

use moescope_analysis::instrument::Property;
use moescope_study::{Judgement, Validity, ValidityOptions};

/// What is planted, and one row for each promise.
pub fn validity_page(found: &Validity) -> String {
    let mut page = format!(
        "{}, seed {}, {} permutations, {} replicates; {} of {} promises kept.\n\n| planted | which is |\n|---|---|\n",
        counted_worlds(&found.options),
        found.options.seed.0,
        found.options.permutations,
        found.options.replicates,
        found.judgements.len() - found.broken().count(),
        found.judgements.len()
    );
    let concerned = |property: &Property| found.judgements.iter().any(|j| j.promise.planted == *property);
    for property in Property::ALL.into_iter().filter(concerned) {
        page.push_str(&row(&[property.name().into(), property.planted().into()]));
    }
    page.push_str("\n| instrument | says | where there is | promised | does | 95 % interval | verdict |\n|---|---|---|---|---|---|---|\n");
    for judgement in &found.judgements {
        page.push_str(&row(&cells(judgement)));
    }
    page
}

/// In how many worlds promises were read.
pub fn counted_worlds(options: &ValidityOptions) -> String {
    match options.seeds == options.silent_seeds {
        true => format!("{} worlds of each kind", options.seeds),
        false => format!(
            "{} worlds of each kind, {} where silence is promised",
            options.seeds, options.silent_seeds
        ),
    }
}

fn cells(judgement: &Judgement) -> [String; 7] {
    let (promise, rate) = (&judgement.promise, &judgement.rate);
    [
        format!("`{}`", judgement.about.name),
        promise.reading.says.into(),
        promise.planted.name().into(),
        if promise.finds { "yes" } else { "no" }.into(),
        format!("{} of {}", rate.hits, rate.trials),
        format!("{:.2} to {:.2}", rate.low, rate.high),
        judgement.verdict().into(),
    ]
}

fn row(cells: &[String]) -> String {
    // A bar inside a cell would end it.
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}
