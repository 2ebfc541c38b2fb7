use moescope_base::{Column, Figure, FigureKind, Table};

use crate::results::{Results, mean};
use crate::roster::Rate;
use crate::tabulate::{Estimates, digits};
use crate::{Family, StudyError};

/// Validation loss of the families at half, the same and double the learning rate: whether what the study says hangs on
/// the one rate that it trains everything with.
pub(super) fn exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    let families = results.config.rate_families();
    let cells: Vec<(Family, Rate)> =
        families.into_iter().flat_map(|family| Rate::ALL.map(|rate| (family, rate))).collect();
    let losses: Vec<Vec<f64>> = cells.iter().map(|(family, rate)| results.loss_at(*family, *rate)).collect();
    let mut columns = vec![
        Column::key("family", "kind of model", cells.iter().map(|(f, _)| f.to_string()).collect()),
        Column::integer_key(
            "rate",
            "% of the study's rate",
            "learning rate",
            cells.iter().map(|(_, rate)| (100.0 * rate.factor()) as i64).collect(),
        ),
    ];
    columns.extend(Estimates::of(&losses)?.columns("loss", "nats/token", "validation loss"));
    let blown_up = |(family, rate): &(Family, Rate)| results.diverged_at(*family, *rate) as i64;
    columns.push(Column::count(
        "diverged",
        "models",
        "models whose training blew up; they have no loss and count in no mean",
        cells.iter().map(blown_up).collect(),
    ));
    let method = "One model per family, rate and seed, on the same windows in the same order.";
    let table = Table::new("rates", "Loss against learning rate", method, columns)?;
    let figure = Figure {
        id: "rates".into(),
        title: finding(results, &families),
        caption: "Validation loss against learning rate, in percent of the rate of the study. Bands are 95 % t-intervals \
                  over seeds; models whose training blew up are left out of them and counted in the table. A family whose curve still falls at an end would gain from a rate that was not tried."
            .into(),
        table: "rates".into(),
        kind: FigureKind::Lines { x: "rate".into(), y: "loss".into(), series: Some("family".into()), log2_x: true },
    };
    Ok((table, figure))
}

/// At which rate each family does best, and with which mean loss: a description, not a claim.
fn finding(results: &Results, families: &[Family]) -> String {
    let best = |family: &Family| {
        let rate = results.best_rate(*family);
        format!("{family} {} at {} ×", digits(mean(&results.loss_at(*family, rate))), rate.factor())
    };
    format!("Each at its best learning rate: {}", families.iter().map(best).collect::<Vec<_>>().join(", "))
}
