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
