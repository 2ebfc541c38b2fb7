//! Tables and pictures of dictionaries.

use moescope_base::{Column, Figure, FigureKind, Site, Table};
use moescope_dictionary::density_histogram;

use super::instrument::{Explained, Feature, Row, kind_of};
use super::letters::Absorbed;
use super::losses::Lost;
use crate::AnalysisError;
use crate::instrument::{Finding, Material, SCRAMBLED};
use crate::statistics::holm;
use crate::tabulate::bootstrap_columns;
use crate::wording::counted;

/// All tables and figures.
pub(super) fn finding(
    rows: &[Row],
    scrambled: &Explained,
    material: &Material<'_>,
) -> Result<Finding, AnalysisError> {
    let tables = vec![sites(rows, scrambled)?, densities(rows)?, features(rows, material)?];
    Ok(Finding { tables, figures: vec![explained(rows, scrambled), found_again(rows)] })
}

fn real(rows: &[Row], of: impl Fn(&Row) -> f64) -> Vec<f64> {
    rows.iter().map(of).collect()
}

/// What a site is, in words.
fn what(row: &Row) -> &'static str {
    match row.site.site() {
        Site::ResidPost => "residual stream",
        Site::MlpOut => "what the layer adds",
        _ => "most used expert",
    }
}

/// A row for each site: what is explained, whether features are alive and found again, what the loss pays, and absorption.
fn sites(rows: &[Row], scrambled: &Explained) -> Result<Table, AnalysisError> {
    let count = |of: &dyn Fn(&Row) -> usize| rows.iter().map(|row| of(row) as i64).collect::<Vec<i64>>();
    let explained: Vec<_> = rows.iter().map(|row| row.learned.explained).collect();
    let names = rows.iter().map(|row| row.site.to_string()).collect();
    let mut columns = vec![
        Column::key("site", "hook whose rows are written", names),
        Column::text("what", "what passes there", rows.iter().map(|row| what(row).into()).collect()),
        Column::count(
            "rows",
            "rows",
            "rows that the first dictionary learned from",
            count(&|r| r.learned.rows),
        ),
        Column::count(
            "features",
            "features",
            "size of each dictionary",
            count(&|r| r.learned.dictionary.features()),
        ),
    ];
    let meaning =
        "share of the variance that is explained in documents not learned from, mean of two dictionaries";
    columns.extend(bootstrap_columns("explained", "share", meaning, &explained));
    columns.push(Column::null("explained", "share", GAUSSIAN, real(rows, |row| row.learned.explained_null)));
    let meaning = "t test of the difference from the null, over documents";
    columns.push(Column::p_value("explained", meaning, real(rows, |row| row.learned.explained_p)));
    let beside =
        |at: usize| real(rows, |row| scrambled.get(&kind_of(&row.site)).map_or(f64::NAN, |found| found[at]));
    let beyond = real(rows, |row| row.learned.explained.estimate - row.learned.explained_null);
    columns.push(Column::estimate(
        "beyond",
        "share",
        "explained beyond dictionaries of Gaussian rows",
        beyond,
    ));
    columns.push(Column::null("beyond", "share", SCRAMBLED, beside(0)));
    columns.extend(of_features(rows));
    columns.push(Column::estimate("scrambled_found_again", "share of features", SCRAMBLED, beside(1)));
    columns.extend(of_losses(rows));
    columns.extend(of_letters(rows));
    let method = "Top-k autoencoders of one size with 4 active features, 51,200 rows with repeats, first tokens left out. Two fifths of the \
                  documents each for two dictionaries, a fifth judges. Features found again have no interval: they are not independent. \
                  Does not show that the model computes with these features.";
    Ok(Table::new("dictionaries", "Sparse dictionaries of one size", method, columns)?)
}

/// What most numbers are held against.
const GAUSSIAN: &str = "dictionaries of Gaussian rows of the same mean and covariance";

/// Features that are dead, and those that are found again in other documents.
fn of_features(rows: &[Row]) -> Vec<Column> {
    let unit = "share of features";
    let found = "active features with a cosine of 0.9 or more with one learned from other documents";
    vec![
        Column::estimate("dead", unit, "active in no judging row", real(rows, |row| row.learned.dead)),
        Column::null("dead", unit, "every feature is active", vec![0.0; rows.len()]),
        Column::estimate("found_again", unit, found, real(rows, |row| row.learned.found)),
        Column::null("found_again", unit, GAUSSIAN, real(rows, |row| row.learned.found_null)),
    ]
}

/// What the model loses with what a dictionary writes in the place of a site, beside the mean of the site.
fn of_losses(rows: &[Row]) -> Vec<Column> {
    let lost = |of: fn(&Lost) -> f64| real(rows, move |row| row.lost.as_ref().map_or(f64::NAN, of));
    let (unit, mean) = ("nats per token", "the mean of the site put in");
    let added = "loss with what the dictionary writes, less the loss";
    let kept = "of the loss that the mean costs, kept; absent where that may be nothing";
    let (low, high) = (lost(|l| l.added.low), lost(|l| l.added.high));
    let mut columns = vec![Column::estimate("loss_added", unit, added, lost(|l| l.added.estimate))];
    columns.extend(Column::interval("loss_added", unit, "bootstrap over documents", low, high));
    columns.extend([
        Column::null("loss_added", unit, mean, lost(|l| l.ablated)),
        Column::estimate("recovered", "share", kept, lost(|l| l.recovered)),
        Column::null("recovered", "share", mean, vec![0.0; rows.len()]),
    ]);
    columns
}

/// Absorption of first letters; absent where texts of tokens are not known, and anywhere but in the stream.
fn of_letters(rows: &[Row]) -> Vec<Column> {
    let letters =
        |of: fn(&Absorbed) -> f64| real(rows, move |row| row.absorbed.as_ref().map_or(f64::NAN, of));
    let count = rows.iter().map(|row| row.absorbed.as_ref().map_or(0, |a| a.letters) as i64).collect();
    let (unit, meaning) =
        ("share of tokens", "whose first letter's feature is silent where another writes it");
    vec![
        Column::estimate("absorbed", unit, meaning, letters(|a| a.share)),
        Column::null("absorbed", unit, "letters dealt out at random", letters(|a| a.null)),
        Column::observations("absorbed", "letters", count),
    ]
}

/// How often features are active.
///
/// - **Shape:** a row for each site and range of densities.
/// - **Null:** all features alike, each active in the same share of rows: they fall into one range.
/// - **Does not show:** densities below one over the number of judging rows, which fall into the first range.
fn densities(rows: &[Row]) -> Result<Table, AnalysisError> {
    let bins: Vec<(usize, moescope_dictionary::DensityBin)> = rows
        .iter()
        .enumerate()
        .flat_map(|(at, row)| density_histogram(&row.learned.densities).into_iter().map(move |bin| (at, bin)))
        .collect();
    let range = |bin: &moescope_dictionary::DensityBin| match bin.from {
        0.0 => "never".to_owned(),
        from if from < 1e-6 => "below 0.000001".to_owned(),
        from => format!("{from} and more"),
    };
    // All features alike would be active in `active / features` of the rows.
    let alike = |(at, bin): &(usize, moescope_dictionary::DensityBin)| {
        let densities = &rows[*at].learned.densities;
        let mean = crate::statistics::mean(densities);
        if (bin.from..bin.below).contains(&mean) { densities.len() as f64 } else { 0.0 }
    };
    let columns = vec![
        Column::key(
            "site",
            "hook whose rows are written",
            bins.iter().map(|(at, _)| rows[*at].site.to_string()).collect(),
        ),
        Column::key(
            "density",
            "share of judging rows in which a feature is active",
            bins.iter().map(|(_, bin)| range(bin)).collect(),
        ),
        Column::estimate(
            "count",
            "features",
            "features of this density",
            bins.iter().map(|(_, bin)| bin.features as f64).collect(),
        ),
        Column::null("count", "features", "all features alike", bins.iter().map(alike).collect()),
    ];
    let method = "Of the first dictionary, by factors of ten. Below one over the number of judging rows nothing can be seen.";
    Ok(Table::new("dictionary_densities", "How often features are active", method, columns)?)
}

/// The features that are found again best.
///
/// Tokens are those that carry most of a feature's activation: they illustrate, and what is common to them need not be what the feature stands
/// for. Cosines are with features of the second dictionary, learned from other documents.
fn features(rows: &[Row], material: &Material<'_>) -> Result<Table, AnalysisError> {
    let all: Vec<(&Row, &Feature)> =
        rows.iter().flat_map(|row| row.features.iter().map(move |f| (row, f))).collect();
    let of =
        |of: &dyn Fn(&Row, usize) -> f64| all.iter().map(|(row, f)| of(row, f.feature)).collect::<Vec<f64>>();
    let tokens = |(_, feature): &(&Row, &Feature)| {
        let one = |(id, part): &(u32, f64)| format!("{} {:.0} %", material.word(*id), 100.0 * part);
        feature.tokens.iter().map(one).collect::<Vec<String>>().join(", ")
    };
    let columns = vec![
        Column::key(
            "site",
            "hook whose rows are written",
            all.iter().map(|(row, _)| row.site.to_string()).collect(),
        ),
        Column::integer_key(
            "feature",
            "",
            "feature of the first dictionary, counted from 0",
            all.iter().map(|(_, f)| f.feature as i64).collect(),
        ),
        Column::estimate(
            "density",
            "share of rows",
            "judging rows in which it is active",
            of(&|row, f| row.learned.densities[f]),
        ),
        Column::estimate(
            "cosine",
            "cosine",
            "with the nearest feature learned from other documents",
            of(&|row, f| row.learned.cosines[f]),
        ),
        Column::text(
            "tokens",
            "tokens with the largest part of its activation",
            all.iter().map(tokens).collect(),
        ),
    ];
    let method = "Of each site the eight active features with the largest cosine. The token is the one at which a feature is active, not \
                  what it stands for.";
    Ok(Table::new("dictionary_features", "Features that are found again best", method, columns)?)
}

/// What is explained, against Gaussian rows.
fn explained(rows: &[Row], scrambled: &Explained) -> Figure {
    let p: Vec<f64> = rows.iter().map(|row| row.learned.explained_p).collect();
    let beyond = holm(&p).into_iter().filter(|p| *p <= 0.05).count();
    let gain = |row: &&Row| row.learned.explained.estimate - row.learned.explained_null;
    let most = rows.iter().max_by(|a, b| gain(a).total_cmp(&gain(b)));
    let example = most.filter(|_| beyond > 0).map_or_else(String::new, |row| {
        let (own, null) = (row.learned.explained.estimate, row.learned.explained_null);
        let beside = scrambled.get(&kind_of(&row.site)).map_or_else(String::new, |[beyond, _]| {
            format!(", a gain of {:.2}, and of {beyond:.2} with the weights in another order", own - null)
        });
        format!("; most at {}: {own:.2} against {null:.2}{beside}", row.site)
    });
    Figure {
        id: "dictionaries".into(),
        title: format!("At {beyond} of {} dictionaries explain more than of Gaussian rows{example}", counted(rows.len(), "site", "sites")),
        caption: "Share of the variance of documents not learned from, with 95 % intervals over documents, beside dictionaries of Gaussian rows; by Holm at 5 %.".into(),
        table: "dictionaries".into(),
        kind: FigureKind::Forest { label: "site".into(), estimate: "explained".into(), reference: None },
    }
}

/// What is found again, against Gaussian rows.
fn found_again(rows: &[Row]) -> Figure {
    let shares = |of: fn(&Row) -> f64| {
        let shares = real(rows, of);
        let (low, high) =
            shares.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), x| (low.min(*x), high.max(*x)));
        match format!("{:.0}", 100.0 * low) == format!("{:.0}", 100.0 * high) {
            true => format!("{:.0} %", 100.0 * low),
            false => format!("{:.0} to {:.0} %", 100.0 * low, 100.0 * high),
        }
    };
    Figure {
        id: "dictionaries_found_again".into(),
        title: format!(
            "{} of a site's features are found again in other documents; {} in Gaussian rows",
            shares(|row| row.learned.found),
            shares(|row| row.learned.found_null)
        ),
        caption: "Share of the active features that a dictionary learned from other documents has as well, at a cosine of 0.9.".into(),
        table: "dictionaries".into(),
        kind: FigureKind::Bars { x: "site".into(), y: "found_again".into(), series: None },
    }
}
