//! What finer experts gain, beside what a published law expects of models of this size.

use moescope_analysis::statistics;
use moescope_base::{Column, Figure, FigureKind, Table};

use crate::laws::granularity_gain;
use crate::results::{Results, loss, mean, subtract};
use crate::tabulate::{Estimates, digits};
use crate::{Family, StudyError};

const NAME: &str = "q3_law";
const MEASURED: &str = "measured";
const LAW: &str = "law of Krajewski et al. 2024";

/// What was measured and what the law says, for each granularity but the coarsest.
struct Gains {
    coarsest: usize,
    granularities: Vec<usize>,
    /// One for each seed.
    measured: Vec<Vec<f64>>,
    law: Vec<f64>,
}

/// Table and figure of gains in loss over the coarsest granularity; none of a sweep of one.
pub(super) fn exhibit(results: &Results) -> Result<Option<(Table, Figure)>, StudyError> {
    let Some(gains) = gains(results) else { return Ok(None) };
    let mut estimates = Estimates::of(&gains.measured)?;
    for law in &gains.law {
        estimates.push(&[*law])?;
    }
    let twice = || gains.granularities.iter().chain(&gains.granularities);
    let rows = gains.granularities.len();
    let source = (0..2 * rows).map(|row| if row < rows { MEASURED } else { LAW }.to_owned()).collect();
    let mut columns = vec![
        Column::integer_key(
            "granularity",
            "",
            "d_ff over expert width (Warsaw)",
            twice().map(|g| *g as i64).collect(),
        ),
        Column::key("source", "measured here, or expected by the law", source),
    ];
    let meaning = format!("loss at granularity {} less the loss at this one", gains.coarsest);
    columns.extend(estimates.columns("gain", "nats/token", &meaning));
    let table = Table::new(
        NAME,
        "What finer experts gain, and what a published law expects",
        "The law of Krajewski, Ludziejewski et al. 2024 (arXiv 2402.07871) at the number of all but the embeddings of these models, every expert included: an \
         extrapolation far below the 129 million from which on it was fitted, to 64 times as many experts as are used, on C4. It has no interval of its own \
         here, and is no null.",
        columns,
    )?;
    let figure = Figure {
        id: NAME.into(),
        title: title(&gains),
        caption: "Gain in validation loss over the coarsest granularity, with 95 % t-intervals over seeds; beside it the law, extrapolated to this size."
            .into(),
        table: NAME.into(),
        kind: FigureKind::Lines {
            x: "granularity".into(),
            y: "gain".into(),
            series: Some("source".into()),
            log2_x: true,
        },
    };
    Ok(Some((table, figure)))
}

fn gains(results: &Results) -> Option<Gains> {
    let (coarsest, finer) = results.config.model.granularities.split_first()?;
    if finer.is_empty() {
        return None;
    }
    let losses = |granularity: usize| results.language(Family::Moe { granularity }, loss);
    let base = losses(*coarsest);
    // Tables of tokens and positions are not counted, whatever their sizes.
    let counts = Family::Moe { granularity: *coarsest }.description(&results.config, 2, 2, 0).counts();
    let parameters = (counts.parameters_total - counts.embedding) as f64;
    let expected = |granularity: usize| granularity_gain(parameters, granularity as f64);
    Some(Gains {
        coarsest: *coarsest,
        granularities: finer.to_vec(),
        measured: finer.iter().map(|granularity| subtract(&base, &losses(*granularity))).collect(),
        law: finer.iter().map(|granularity| expected(*granularity) - expected(*coarsest)).collect(),
    })
}

/// The gain of the finest granularity with its interval, beside that of the law.
fn title(gains: &Gains) -> String {
    let last = gains.granularities.len() - 1;
    let measured = &gains.measured[last];
    let between = statistics::one_sample(measured)
        .map_or_else(|_| String::new(), |of| format!(" ({} to {})", digits(of.low), digits(of.high)));
    format!(
        "Granularity {} gains {} nats{between} over granularity {}; a law fitted to far larger models expects {}",
        gains.granularities[last],
        digits(mean(measured)),
        gains.coarsest,
        digits(gains.law[last])
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::questions::planted::{Planted, results, wobble};

    #[test]
    fn planted_gains_stand_beside_those_of_the_law() {
        let planted = Planted {
            loss: |family, seed| match family {
                Family::Moe { granularity } => {
                    3.0 - 0.05 * (granularity as f64).log2() + wobble(family, seed)
                }
                _ => 3.0,
            },
            ..Planted::NOTHING
        };
        let results = results(&planted);
        let (table, figure) = exhibit(&results).unwrap().unwrap();
        let number = |column: &str, row: usize| table.column(column).unwrap().data.number(row).unwrap();
        let rows = table.rows() / 2;
        assert_eq!(rows, results.config.model.granularities.len() - 1);
        for row in 0..rows {
            let granularity = number("granularity", row);
            assert!((number("gain", row) - 0.05 * granularity.log2()).abs() < 0.01);
            assert_eq!(number("granularity", rows + row), granularity);
            let (law, before) =
                (number("gain", rows + row), if row == 0 { 0.0 } else { number("gain", rows + row - 1) });
            assert!(law > before && law < 1.0, "{law}: finer is better by the law");
        }
        assert!(
            figure.title.contains(" to ") && figure.title.contains(") over granularity 1; a law"),
            "{}",
            figure.title
        );
    }

    #[test]
    fn the_parameters_of_the_law_are_all_but_the_embeddings() {
        let results = results(&Planted::NOTHING);
        let gains = gains(&results).unwrap();
        let counts = Family::Moe { granularity: 1 }.description(&results.config, 500, 64, 0).counts();
        let parameters = (counts.parameters_total - counts.embedding) as f64;
        assert_eq!(gains.law[0], granularity_gain(parameters, gains.granularities[0] as f64));
    }
}
