//! What is told of each layer, as a table and its figures.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::REPLICATES;
use super::geometry::Sharing;
use super::place::Place;
use crate::AnalysisError;
use crate::instrument::SCRAMBLED;
use crate::statistics::{Bootstrap, Resampling, bootstrap, mean};
use crate::tabulate::bootstrap_columns;
use crate::wording::counted;

/// What is told of the stream after a block, or of its experts, on average over these.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    layer: usize,
    place: &'static str,
    width: usize,
    asked: f64,
    held: f64,
    per_dimension: f64,
    strength: f64,
    p_value: f64,
    interference: Bootstrap,
    dimensionality: Bootstrap,
    random: Sharing,
}

impl Row {
    /// Of one or more places of a layer. Of several the smallest p-value counts as often as there are places.
    ///
    /// # Errors
    /// As [`bootstrap`].
    pub(super) fn new(
        layer: usize,
        place: &'static str,
        places: &[Place],
        resampling: Resampling,
    ) -> Result<Row, AnalysisError> {
        let over = |of: &dyn Fn(&Place) -> f64| mean(&places.iter().map(of).collect::<Vec<f64>>());
        let shares = |place: &&Place| place.sharing.is_some_and(|sharing| sharing.interference.is_finite());
        let sharing: Vec<&Place> = places.iter().filter(shares).collect();
        let random = |of: fn(&Sharing) -> f64| {
            mean(&sharing.iter().filter_map(|place| place.random.as_ref().map(of)).collect::<Vec<f64>>())
        };
        let mut documents: Vec<u32> = sharing.iter().flat_map(|place| place.documents.clone()).collect();
        documents.sort_unstable();
        documents.dedup();
        let interval = |of: fn(&Sharing) -> f64| {
            if sharing.is_empty() {
                return Ok(Bootstrap::without_interval(f64::NAN, 0));
            }
            let over = |drawn: &[usize]| {
                let drawn: Vec<u32> = drawn.iter().map(|document| documents[*document]).collect();
                // Each draw of documents has a deal of its own, so that the interval holds what chance does there, too.
                let deal =
                    drawn.iter().fold(0_u64, |sum, at| sum.wrapping_mul(31).wrapping_add(u64::from(*at)));
                mean(&sharing.iter().map(|place| of(&place.resampled(&drawn, deal))).collect::<Vec<f64>>())
            };
            let replicates = resampling.replicates.min(REPLICATES);
            let estimate = mean(
                &sharing.iter().filter_map(|place| place.sharing.as_ref().map(of)).collect::<Vec<f64>>(),
            );
            match bootstrap(documents.len(), over, Resampling { replicates, ..resampling }) {
                Ok(found) => Ok(Bootstrap { estimate, ..found }),
                // Single deals may leave out features that are rare; over eight of them the estimate stands all the same.
                Err(AnalysisError::NotFinite { .. } | AnalysisError::TooFew { .. }) => {
                    Ok(Bootstrap::without_interval(estimate, documents.len()))
                }
                Err(error) => Err(error),
            }
        };
        let least = places.iter().map(|place| place.held.p_value).fold(1.0, f64::min);
        Ok(Row {
            layer,
            place,
            width: places[0].width,
            asked: over(&|place| place.asked as f64),
            held: over(&|place| place.held.features.len() as f64),
            per_dimension: over(&Place::per_dimension),
            strength: over(&|place| place.held.strength),
            p_value: (least * places.len() as f64).min(1.0),
            interference: interval(|sharing| sharing.interference)?,
            dimensionality: interval(|sharing| sharing.dimensionality)?,
            random: Sharing {
                interference: random(|sharing| sharing.interference),
                dimensionality: random(|sharing| sharing.dimensionality),
            },
        })
    }
}

/// What names a row, and its dimensions.
fn keys(rows: &[Row]) -> Vec<Column> {
    let whole = |of: fn(&Row) -> usize| rows.iter().map(|row| of(row) as i64).collect::<Vec<i64>>();
    vec![
        Column::integer_key("layer", "", "block, counted from 0", whole(|row| row.layer)),
        Column::key(
            "place",
            "the stream after the block, the neurons of its experts, or those of a dense layer",
            rows.iter().map(|row| row.place.to_owned()).collect(),
        ),
        Column::count("dimensions", "", "coordinates of a vector there", whole(|row| row.width)),
    ]
}

/// One row for each layer and place, beside what is told of it with the weights in another order.
///
/// # Errors
/// If the columns make no table.
pub(super) fn table(rows: &[Row], scrambled: &[Row]) -> Result<Table, AnalysisError> {
    let beside = |of: fn(&Row) -> f64| {
        rows.iter().map(|row| same(scrambled, row).map_or(f64::NAN, of)).collect::<Vec<f64>>()
    };
    let real = |of: fn(&Row) -> f64| rows.iter().map(of).collect::<Vec<f64>>();
    let interval = |of: fn(&Row) -> Bootstrap| rows.iter().map(of).collect::<Vec<Bootstrap>>();
    let other =
        |name: &str, unit: &str, of: fn(&Row) -> f64| Column::estimate(name, unit, SCRAMBLED, beside(of));
    let mut columns = keys(rows);
    columns.extend([
        Column::estimate("asked", "features", "features that were looked for", real(|row| row.asked)),
        Column::estimate(
            "held",
            "features",
            "features that have a direction, by Holm at 5 %",
            real(|row| row.held),
        ),
        Column::estimate(
            "per_dimension",
            "features for each dimension",
            "held features for each dimension: a lower limit, at most those asked for",
            real(|row| row.per_dimension),
        ),
        Column::null(
            "per_dimension",
            "features for each dimension",
            SCRAMBLED,
            beside(|row| row.per_dimension),
        ),
        Column::estimate(
            "asked_per_dimension",
            "features for each dimension",
            "features that were looked for, for each dimension",
            real(|row| row.asked / row.width as f64),
        ),
        Column::estimate(
            "strength",
            "standard deviations",
            "mean squared length of the features, in standard deviations under the null",
            real(|row| row.strength),
        ),
        Column::null(
            "strength",
            "standard deviations",
            "labels moved along each document",
            vec![0.0; rows.len()],
        ),
        Column::p_value("strength", "draws in which features are as long", real(|row| row.p_value)),
        other("scrambled_interference", "dimensions", |row| row.interference.estimate),
        other("scrambled_strength", "standard deviations", |row| row.strength),
        other("scrambled_dimensionality", "dimensions", |row| row.dimensionality.estimate),
    ]);
    let meaning = "sum of squared cosines with all other held features";
    columns.extend(bootstrap_columns(
        "interference",
        "dimensions",
        meaning,
        &interval(|row| row.interference),
    ));
    let random = "random directions of the same lengths";
    columns.push(Column::null("interference", "dimensions", random, real(|row| row.random.interference)));
    let meaning = "share of a dimension that a held feature has to itself";
    columns.extend(bootstrap_columns(
        "dimensionality",
        "dimensions",
        meaning,
        &interval(|row| row.dimensionality),
    ));
    columns.push(Column::null("dimensionality", "dimensions", random, real(|row| row.random.dimensionality)));
    let method = "Features are the most frequent token ids. The direction of a feature is the mean of the vectors that have it less that of the \
                  others, less the mean of their document, estimated in four parts of the documents; products are made between parts alone, so that noise \
                  gives 0 on average, and averaged over eight deals. Longer directions count more. Of experts: the means over at most four with most tokens.";
    Ok(Table::new("superposition", "How features share dimensions", method, columns)?)
}

/// The same place of the model with its weights in another order.
fn same<'r>(scrambled: &'r [Row], row: &Row) -> Option<&'r Row> {
    scrambled.iter().find(|other| (other.layer, other.place) == (row.layer, row.place))
}

/// Interference and dimensionality by layer.
pub(super) fn figures(rows: &[Row], scrambled: &[Row], table: &Table) -> Vec<Figure> {
    let lines = |id: &str, title: String, y: &str, caption: &str| Figure {
        id: id.into(),
        title,
        caption: caption.into(),
        table: table.name().into(),
        kind: FigureKind::Bars { x: "layer".into(), y: y.into(), series: Some("place".into()) },
    };
    let beyond = rows.iter().filter(|row| row.interference.low > row.random.interference);
    let most = beyond.clone().max_by(|a, b| a.interference.low.total_cmp(&b.interference.low));
    let told = rows.iter().filter(|row| row.interference.estimate.is_finite()).count();
    let title = match (told, most) {
        (0, _) => "No place holds two features that could share a dimension".to_owned(),
        (_, None) => format!(
            "In 0 of {} features share dimensions more than random directions do",
            counted(told, "place", "places")
        ),
        (_, Some(row)) => format!(
            "In {} of {} features share dimensions more than random directions do; most surely in the {} of layer {}: {:.2} ({:.2} to {:.2}) against {:.2}{}",
            beyond.count(),
            counted(told, "place", "places"),
            row.place,
            row.layer,
            row.interference.estimate,
            row.interference.low,
            row.interference.high,
            row.random.interference,
            same(scrambled, row)
                .filter(|other| other.interference.estimate.is_finite())
                .map_or_else(String::new, |other| {
                    format!(", with the weights in another order {:.2}", other.interference.estimate)
                })
        ),
    };
    let shares = rows.iter().map(|row| row.dimensionality.estimate).filter(|share| share.is_finite());
    let (least, largest) = shares.fold((f64::INFINITY, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)));
    let mut figures = vec![lines(
        "superposition",
        title,
        "interference",
        "Sum of squared cosines of a feature with all others, with 95 % intervals over documents, noise taken out; the null are random \
         directions of the same lengths. Above it features are crowded into few directions, as those of an untrained network are, too: what goes \
         with a token in the text goes into its direction.",
    )];
    if least.is_finite() {
        figures.push(lines(
            "superposition_dimensionality",
            format!("A held feature has from {least:.2} to {largest:.2} of a dimension to itself"),
            "dimensionality",
            "1 where all features are orthogonal, one half where each has an opposite one; with 95 % intervals over documents, beside random directions of \
             the same lengths. At most 48 features are asked for.",
        ));
    }
    figures
}
