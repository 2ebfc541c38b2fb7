//! Measures of a dictionary as tables.
//!
//! Five at most: `measures`, `densities` (a histogram), `features` (the density of each), `absorption` of first letters, where the text has enough
//! of any, and `found_again`, where another dictionary was named. Numbers that do not exist are not-a-number, as in all tables.

use moescope_analysis::statistics::{Proportion, proportion};
use moescope_base::{Column, Table};

use super::measures::{LetterAbsorption, Measured};
use crate::failure::Failure;

/// All tables of a measurement; `unit` says what the independent units were.
///
/// # Errors
/// If columns do not fit, which they always do.
pub(super) fn all(found: &Measured, unit: &str, rows: u64) -> Result<Vec<Table>, Failure> {
    let mut tables = vec![measures(found, unit)?, densities(found, rows)?, features(found, rows)?];
    if !found.letters.is_empty() {
        tables.push(letters(&found.letters)?);
    }
    if let Some((again, null)) = &found.again {
        tables.push(Table::new(
            "found_again",
            "Directions of another dictionary that are here as well",
            "For each direction of the other dictionary the largest cosine with any of this one; found from 0.9 on. \
             Null: as many random directions in place of this dictionary. After Sharkey, Braun and Millidge 2022.",
            vec![
                Column::key("measure", "what is measured", vec!["mean largest cosine".into(), "share found".into()]),
                Column::estimate("value", "", "cosine or share of directions", vec![again.mean, again.found]),
                Column::observations("value", "directions", vec![again.cosines.len() as i64; 2]),
                Column::null("value", "", "random directions", vec![null.mean, null.found]),
            ],
        )?);
    }
    Ok(tables)
}

/// One row for each measure, with interval, null, and the same of random directions.
fn measures(found: &Measured, unit: &str) -> Result<Table, Failure> {
    let each = &found.measures;
    let real =
        |pick: &dyn Fn(usize) -> Option<f64>| (0..each.len()).map(|i| pick(i).unwrap_or(f64::NAN)).collect();
    let text = |pick: &dyn Fn(usize) -> &'static str| (0..each.len()).map(|i| pick(i).to_owned()).collect();
    let low = real(&|i| each[i].interval.map(|ends| ends.0));
    let high = real(&|i| each[i].interval.map(|ends| ends.1));
    let [low, high] = Column::interval("value", "", "95 %, bootstrap over independent units", low, high);
    let observations = each.iter().map(|measure| measure.n as i64).collect();
    let columns = vec![
        Column::key("measure", "what is measured", text(&|i| each[i].name)),
        Column::key("unit", "unit of the value", text(&|i| each[i].unit)),
        Column::estimate("value", "", "the measure, in its unit", real(&|i| Some(each[i].value))),
        low,
        high,
        Column::observations("value", unit, observations),
        Column::null("value", "", "the measure where there is nothing to find", real(&|i| each[i].null)),
        Column::estimate(
            "random",
            "",
            "the measure of random directions, as sparse",
            real(&|i| each[i].random),
        ),
        Column::text("against", "what the null is", text(&|i| each[i].against)),
    ];
    let method = format!(
        "Independent units are {unit}; of dead features, n is the number of features. Random directions read what they write and keep as \
         many features as the dictionary; a transcoder has no such null."
    );
    Ok(Table::new("measures", "What the dictionary explains", &method, columns)?)
}

/// How many features are active how often, by factors of ten.
fn densities(found: &Measured, rows: u64) -> Result<Table, Failure> {
    // The edge between features that are never active and the rarest ones is above zero by less than anything that can be seen.
    let seen = |edge: f64| if edge < 1e-300 { 0.0 } else { edge };
    let name = |bin: &moescope_dictionary::DensityBin| match bin.from == 0.0 {
        true => "never".to_owned(),
        false => format!("below {}", bin.below),
    };
    let columns = vec![
        Column::key("density", "range of the density", found.bins.iter().map(name).collect()),
        Column::estimate(
            "from",
            "share of rows",
            "least density of the range",
            found.bins.iter().map(|bin| seen(bin.from)).collect(),
        ),
        Column::estimate(
            "below",
            "share of rows",
            "density at which the range ends",
            found.bins.iter().map(|bin| seen(bin.below)).collect(),
        ),
        Column::count(
            "features",
            "features",
            "features in the range",
            found.bins.iter().map(|bin| bin.features as i64).collect(),
        ),
    ];
    let method = format!(
        "Share of {rows} rows in which a feature is active; densities below one over that number cannot be seen."
    );
    Ok(Table::new("densities", "How often features are active", &method, columns)?)
}

/// How often each feature is active.
fn features(found: &Measured, rows: u64) -> Result<Table, Failure> {
    let count = found.densities.len();
    let columns = vec![
        Column::integer_key("feature", "", "number of the feature", (0..count as i64).collect()),
        Column::estimate("density", "share of rows", "rows in which it is active", found.densities.clone()),
        Column::observations("density", "rows", vec![rows as i64; count]),
    ];
    Ok(Table::new("features", "Density of each feature", "Counted over all rows of the text.", columns)?)
}

/// One row for each first letter, with an exact interval over its tokens.
///
/// Tokens of one document are not independent, so the interval is too narrow where few documents hold them; the column says so.
fn letters(letters: &[LetterAbsorption]) -> Result<Table, Failure> {
    let shares: Vec<Proportion> = letters
        .iter()
        .map(|letter| {
            let hits = (letter.found.absorbed * letter.found.tokens as f64).round() as usize;
            proportion(hits, letter.found.tokens)
        })
        .collect::<Result<_, _>>()?;
    let [low, high] = Column::interval(
        "absorbed",
        "share",
        "95 %, exact, for tokens taken as independent, which tokens of one document are not",
        shares.iter().map(|share| share.low).collect(),
        shares.iter().map(|share| share.high).collect(),
    );
    let columns = vec![
        Column::key(
            "letter",
            "first letter of the token",
            letters.iter().map(|l| l.letter.to_string()).collect(),
        ),
        Column::count(
            "feature",
            "",
            "feature that tells the letter best",
            letters.iter().map(|l| l.found.feature as i64).collect(),
        ),
        Column::estimate(
            "f1",
            "share",
            "F1 of that feature as a detector",
            letters.iter().map(|l| l.found.f1).collect(),
        ),
        Column::estimate(
            "absorbed",
            "share",
            "tokens in which another feature took its part",
            letters.iter().map(|l| l.found.absorbed).collect(),
        ),
        low,
        high,
        Column::observations("absorbed", "tokens", letters.iter().map(|l| l.found.tokens as i64).collect()),
        Column::null(
            "absorbed",
            "share",
            "letters dealt out at random",
            letters.iter().map(|l| l.null.unwrap_or(f64::NAN)).collect(),
        ),
    ];
    Ok(Table::new(
        "absorption",
        "Absorption of first letters",
        "A token is absorbed where the feature that tells its letter best is silent and one other feature writes 0.4 or more of its way \
         along the difference of the means with and without the letter. After Chanin et al. 2024.",
        columns,
    )?)
}
