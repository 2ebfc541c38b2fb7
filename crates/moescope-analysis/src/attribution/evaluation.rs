use moescope_base::{Column, Table};

use super::{Attribution, EditEffect, Integrated};
use crate::statistics::{Bootstrap, Resampling, cluster_bootstrap, pearson, spearman};
use crate::{AnalysisError, check};

type Statistic = fn(&[EditEffect]) -> f64;

/// Summarises edits with intervals over documents.
pub(super) fn evaluate(
    edits: Vec<EditEffect>,
    steps: usize,
    resampling: Resampling,
) -> Result<Attribution, AnalysisError> {
    check::at_least("attribution", "edits", edits.len(), 3)?;
    let effects: Vec<f64> = edits.iter().map(|e| e.actual).collect();
    check::finite("attribution", &effects)?;
    if effects.iter().all(|e| *e == effects[0]) {
        return Err(AnalysisError::Constant { method: "attribution", what: "the effect of the edits" });
    }
    let all = |statistic: Statistic| over_documents(&edits, statistic, resampling);
    let some = |keep: fn(&EditEffect) -> bool, statistic: Statistic| {
        let kept: Vec<EditEffect> = edits.iter().copied().filter(keep).collect();
        // Too few documents, or edits without any effect, leave nothing to report; that is no failure.
        over_documents(&kept, statistic, resampling).ok()
    };
    let routed = |e: &EditEffect| e.frozen.is_some();
    Ok(Attribution {
        pearson: all(pearson_of)?,
        spearman: all(spearman_of)?,
        slope: all(slope)?,
        error: all(error)?,
        flip_share: all(flip_share)?,
        error_with_flip: some(|e| e.flipped, error),
        error_without_flip: some(|e| !e.flipped, error),
        frozen_error: some(routed, frozen_error),
        frozen_error_with_flip: some(|e| e.frozen.is_some() && e.flipped, frozen_error),
        integrated: integrated(&edits, steps, resampling)?,
        edits,
    })
}

/// The same errors of the integrals in the place of the gradients; none without integrals.
fn integrated(
    edits: &[EditEffect],
    steps: usize,
    resampling: Resampling,
) -> Result<Option<Integrated>, AnalysisError> {
    let free = |edit: &EditEffect| Some(EditEffect { predicted: edit.integrated?, ..*edit });
    let held = |edit: &EditEffect| {
        Some(EditEffect { predicted: edit.integrated_frozen?, actual: edit.frozen?, ..*edit })
    };
    let free: Vec<EditEffect> = edits.iter().filter_map(free).collect();
    let held: Vec<EditEffect> = edits.iter().filter_map(held).collect();
    if free.is_empty() {
        return Ok(None);
    }
    let some = |of: &[EditEffect], keep: fn(&EditEffect) -> bool| {
        let kept: Vec<EditEffect> = of.iter().copied().filter(keep).collect();
        over_documents(&kept, error, resampling).ok()
    };
    Ok(Some(Integrated {
        steps,
        error: over_documents(&free, error, resampling)?,
        error_with_flip: some(&free, |edit| edit.flipped),
        error_without_flip: some(&free, |edit| !edit.flipped),
        frozen_error: some(&held, |_| true),
        frozen_error_with_flip: some(&held, |edit| edit.flipped),
    }))
}

impl Attribution {
    /// One row for each metric; units differ by row and are in a column of their own.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self, name: &str, title: &str) -> Result<Table, AnalysisError> {
        let rows = self.rows();
        let of = |pick: fn(&Bootstrap) -> f64| rows.iter().map(|r| pick(&r.value)).collect::<Vec<f64>>();
        let text = |pick: fn(&Row) -> &str| rows.iter().map(|r| pick(r).to_owned()).collect::<Vec<String>>();
        let unit = "see the row";
        let level = "95 % bootstrap over documents";
        let mut columns = vec![
            Column::key("metric", "what is measured", text(|r| r.metric)),
            Column::text("unit", "unit of the row", text(|r| r.unit)),
            Column::estimate("value", unit, "estimate", of(|b| b.estimate)),
        ];
        columns.extend(Column::interval("value", unit, level, of(|b| b.low), of(|b| b.high)));
        columns.push(Column::observations(
            "value",
            "documents",
            rows.iter().map(|r| r.value.units as i64).collect(),
        ));
        let nulls = rows.iter().map(|r| r.null).collect();
        columns.push(Column::null("value", unit, "a prediction of no effect; no flips", nulls));
        let method = "Single-position edits of attention and feed-forward outputs: gradient × difference against the true change \
                      of the summed loss of the sequence. Integrated gradients take the mean gradient on the straight way to the replacement; \
                      their relative error is what is missing to completeness.";
        Ok(Table::new(name, title, method, columns)?)
    }

    /// Errors of integrated gradients, if there are any.
    fn integrals(&self) -> Vec<(&'static str, Option<Bootstrap>)> {
        let of = |found: &Integrated| {
            vec![
                ("integrated gradients: relative error", Some(found.error)),
                ("integrated gradients: relative error of edits that flip", found.error_with_flip),
                ("integrated gradients: relative error of edits that do not", found.error_without_flip),
                ("integrated gradients: relative error with frozen routes", found.frozen_error),
                (
                    "integrated gradients: relative error with frozen routes, edits that flip",
                    found.frozen_error_with_flip,
                ),
            ]
        };
        self.integrated.as_ref().map_or_else(Vec::new, of)
    }

    fn rows(&self) -> Vec<Row> {
        let always = [
            ("Pearson correlation", "", 0.0, self.pearson),
            ("Spearman correlation", "", 0.0, self.spearman),
            ("slope of effect on prediction", "nats per nat", 0.0, self.slope),
            ("relative error", "of the mean effect", 1.0, self.error),
            ("edits that flip a route", "share", 0.0, self.flip_share),
        ];
        let sometimes = [
            ("relative error of edits that flip", self.error_with_flip),
            ("relative error of edits that do not", self.error_without_flip),
            ("relative error with frozen routes", self.frozen_error),
            ("relative error with frozen routes, edits that flip", self.frozen_error_with_flip),
        ];
        let known = sometimes
            .into_iter()
            .chain(self.integrals())
            .filter_map(|(m, value)| value.map(|v| (m, "of the mean effect", 1.0, v)));
        always
            .into_iter()
            .chain(known)
            .map(|(metric, unit, null, value)| Row { metric, unit, null, value })
            .collect()
    }
}

struct Row {
    metric: &'static str,
    unit: &'static str,
    null: f64,
    value: Bootstrap,
}

fn over_documents(
    edits: &[EditEffect],
    statistic: Statistic,
    resampling: Resampling,
) -> Result<Bootstrap, AnalysisError> {
    let documents: Vec<u32> = edits.iter().map(|e| e.document).collect();
    let of_rows = |rows: &[usize]| statistic(&rows.iter().map(|r| edits[*r]).collect::<Vec<_>>());
    cluster_bootstrap(&documents, of_rows, resampling)
}

fn columns(edits: &[EditEffect]) -> (Vec<f64>, Vec<f64>) {
    edits.iter().map(|e| (e.predicted, e.actual)).unzip()
}

fn pearson_of(edits: &[EditEffect]) -> f64 {
    let (predicted, actual) = columns(edits);
    pearson(&predicted, &actual).map_or(f64::NAN, |c| c.coefficient)
}

fn spearman_of(edits: &[EditEffect]) -> f64 {
    let (predicted, actual) = columns(edits);
    spearman(&predicted, &actual).map_or(f64::NAN, |c| c.coefficient)
}

/// Least-squares slope of the actual on the predicted effect.
fn slope(edits: &[EditEffect]) -> f64 {
    let n = edits.len() as f64;
    let centre_x = edits.iter().map(|e| e.predicted).sum::<f64>() / n;
    let centre_y = edits.iter().map(|e| e.actual).sum::<f64>() / n;
    let covariance: f64 = edits.iter().map(|e| (e.predicted - centre_x) * (e.actual - centre_y)).sum();
    covariance / edits.iter().map(|e| (e.predicted - centre_x).powi(2)).sum::<f64>()
}

fn error(edits: &[EditEffect]) -> f64 {
    let missed: f64 = edits.iter().map(|e| (e.predicted - e.actual).abs()).sum();
    missed / edits.iter().map(|e| e.actual.abs()).sum::<f64>()
}

/// The same against the effect with frozen routes; edits without one are not given here.
fn frozen_error(edits: &[EditEffect]) -> f64 {
    let frozen: Vec<EditEffect> =
        edits.iter().map(|e| EditEffect { actual: e.frozen.unwrap_or(f64::NAN), ..*e }).collect();
    error(&frozen)
}

fn flip_share(edits: &[EditEffect]) -> f64 {
    edits.iter().filter(|e| e.flipped).count() as f64 / edits.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::BootstrapMethod;
    use moescope_base::{Seed, Site};

    fn edit(document: u32, predicted: f64, actual: f64, frozen: f64, flipped: bool) -> EditEffect {
        EditEffect {
            document,
            layer: 0,
            site: Site::MlpOut,
            position: 0,
            predicted,
            actual,
            frozen: Some(frozen),
            flipped,
            integrated: Some(actual / 2.0),
            integrated_frozen: Some(frozen),
        }
    }

    fn resampling() -> Resampling {
        Resampling { replicates: 50, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) }
    }

    /// Predicted 1, 2, 3 and 2; what happened 2, 2, −1 and 1; the last two flip.
    fn edits() -> Vec<EditEffect> {
        vec![
            edit(0, 1.0, 2.0, 1.0, false),
            edit(1, 2.0, 2.0, 2.0, false),
            edit(2, 3.0, -1.0, 4.0, true),
            edit(3, 2.0, 1.0, 2.0, true),
        ]
    }

    #[test]
    fn errors_slope_and_correlation_by_hand() {
        let found = evaluate(edits(), 7, resampling()).unwrap();
        let near = |found: Bootstrap, wanted: f64| {
            assert!((found.estimate - wanted).abs() < 1e-12, "{found:?}, {wanted}");
        };
        // Misses 1, 0, 4 and 1 of effects of 2, 2, 1 and 1.
        near(found.error, 6.0 / 6.0);
        near(found.error_without_flip.unwrap(), 1.0 / 4.0);
        near(found.error_with_flip.unwrap(), 5.0 / 2.0);
        near(found.flip_share, 0.5);
        // About the means 2 and 1: products −1, 0, −2 and 0; squares 1, 0, 1 and 0, and 1, 1, 4 and 0.
        near(found.slope, -3.0 / 2.0);
        near(found.pearson, -3.0 / 12.0_f64.sqrt());
        // Ranks 1, 2½, 4, 2½ and 3½, 3½, 1, 2: products about 2½ are −1.5, 0, −2.25 and 0; squares 4.5 each.
        near(found.spearman, -3.75 / 4.5);
        // Against the effects with routes held, 1, 2, 4 and 2, the misses are 0, 0, 1 and 0.
        near(found.frozen_error.unwrap(), 1.0 / 9.0);
        near(found.frozen_error_with_flip.unwrap(), 1.0 / 6.0);
        let integrated = found.integrated.unwrap();
        near(integrated.error, 0.5);
        near(integrated.frozen_error.unwrap(), 0.0);
        assert_eq!((integrated.steps, found.error.units), (7, 4));
    }

    #[test]
    fn the_order_of_edits_and_the_unit_of_the_loss_do_not_matter() {
        let plain = evaluate(edits(), 7, resampling()).unwrap();
        let scaled = |edit: &EditEffect| EditEffect {
            predicted: 3.0 * edit.predicted,
            actual: 3.0 * edit.actual,
            frozen: edit.frozen.map(|x| 3.0 * x),
            ..*edit
        };
        let other = evaluate(edits().iter().rev().map(scaled).collect(), 7, resampling()).unwrap();
        for (own, other) in [
            (plain.error, other.error),
            (plain.slope, other.slope),
            (plain.pearson, other.pearson),
            (plain.spearman, other.spearman),
            (plain.frozen_error.unwrap(), other.frozen_error.unwrap()),
        ] {
            assert!((own.estimate - other.estimate).abs() < 1e-12, "{own:?} {other:?}");
        }
    }

    #[test]
    fn predictions_that_know_nothing_of_the_effects_correlate_with_nothing() {
        let mut rng = Seed(3).rng();
        let mut drawn = || crate::matrix::normal(&mut rng);
        let edits = (0..400).map(|at| edit(at / 4, drawn(), drawn(), drawn(), at % 3 == 0)).collect();
        let found = evaluate(edits, 0, resampling()).unwrap();
        assert!(found.pearson.low < 0.0 && found.pearson.high > 0.0, "{:?}", found.pearson);
        assert!(found.slope.low < 0.0 && found.slope.high > 0.0, "{:?}", found.slope);
        assert!(found.error.low > 1.0, "no better than predicting nothing: {:?}", found.error);
    }
}
