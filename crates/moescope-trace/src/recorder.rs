//! Asking a subject, batch after batch.

use std::collections::BTreeMap;

use moescope_base::{
    Edit, FeedForwardShape, HookPoint, LogitTerm, Objective, Observation, Request, Site, Subject,
    SubjectShape, Tokens, Value,
};
use rayon::prelude::*;

use crate::near_tie::{margins, relative_margins};
use crate::{LayerRouting, RoutingTrace, TokenTable, TraceError};

/// Values of one batch, as recorded.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Input.
    pub tokens: Tokens,
    /// Values by hook point, always with the logits.
    pub values: BTreeMap<HookPoint, Value>,
    /// Gradients of the **mean** next-token loss, in nats per unit of the value; or of the weighted sum of logits, which each
    /// sequence has for itself.
    pub gradients: BTreeMap<HookPoint, Value>,
    /// Next-token loss in nats, `[batch, pos - 1]`.
    pub loss: Vec<f32>,
    /// The weighted sum of logits that was differentiated, if it was: `[batch]`.
    pub objective: Option<Vec<f32>>,
}

/// The values that routes are recorded from: logits, scores, selection scores, choices and weights of every routed layer.
pub fn routing_points(shape: &SubjectShape) -> Vec<HookPoint> {
    let sites = [
        Site::RouterLogits,
        Site::RouterScores,
        Site::RouterSelect,
        Site::RouterIndices,
        Site::RouterWeights,
    ];
    shape
        .routed_layers()
        .into_iter()
        .flat_map(|layer| sites.map(|site| HookPoint::block(site, layer)))
        .collect()
}

/// Records the routes of a corpus through every routed layer.
///
/// Each batch comes with what is known about its tokens, in the same order; names of domains and classes must be the same in
/// every batch. The batches are run as they are: a token's routes do not depend on its neighbours in the batch.
///
/// # Errors
/// If a batch and its token table disagree, or the subject cannot answer.
pub fn record_routing(
    subject: &mut dyn Subject,
    batches: impl IntoIterator<Item = (Tokens, TokenTable)>,
) -> Result<RoutingTrace, TraceError> {
    let mut layers = empty_layers(subject.shape());
    let record = routing_points(subject.shape());
    let mut all: Option<TokenTable> = None;
    for (tokens, table) in batches {
        check_batch(&tokens, &table)?;
        let seen = subject.run(&Request::recording(&tokens, &record))?;
        layers.par_iter_mut().try_for_each(|layer| append(layer, &seen))?;
        match &mut all {
            None => all = Some(table),
            Some(all) => all.extend(table)?,
        }
    }
    RoutingTrace::new(all.unwrap_or_default(), layers)
}

/// Records values, and gradients of the loss where asked for, at these points for one batch.
///
/// # Errors
/// If the subject cannot answer, or leaves out what was asked for.
pub fn record_tensors(
    subject: &mut dyn Subject,
    tokens: &Tokens,
    points: &[HookPoint],
    edits: &[Edit],
    gradients: &[HookPoint],
) -> Result<Recording, TraceError> {
    record_request(subject, &Request { record: points, edits, gradients, ..Request::of(tokens) })
}

/// Records what a request asks for, of whatever objective its gradients are, and the logits.
///
/// # Errors
/// As [`record_tensors`].
pub fn record_request(subject: &mut dyn Subject, request: &Request<'_>) -> Result<Recording, TraceError> {
    let tokens = request.tokens;
    let mut record = request.record.to_vec();
    record.push(HookPoint::global(Site::Logits));
    record.sort_unstable();
    record.dedup();
    let seen = subject.run(&Request { record: &record, ..*request })?;
    let count = match request.objective {
        Objective::Loss => seen.loss.len() as f32,
        Objective::Logits(_) => 1.0,
    };
    let mean = |(point, value): (HookPoint, Value)| Ok((point, divided(point, &value, count)?));
    let objective = match request.objective {
        Objective::Logits(terms) if !request.gradients.is_empty() => {
            Some(sums(terms, &seen.values[&HookPoint::global(Site::Logits)]))
        }
        _ => None,
    };
    let recording = Recording {
        tokens: tokens.clone(),
        gradients: seen.gradients.into_iter().map(mean).collect::<Result<_, TraceError>>()?,
        values: seen.values,
        loss: seen.loss,
        objective,
    };
    check_complete(&record, &recording.values, tokens)?;
    check_complete(request.gradients, &recording.gradients, tokens)?;
    let wanted = tokens.len() - tokens.batch();
    if recording.loss.len() != wanted {
        return Err(inconsistent("the recorded loss", recording.loss.len(), format!("{wanted} entries")));
    }
    Ok(recording)
}

/// The weighted sum of logits of each sequence.
fn sums(terms: &[LogitTerm], logits: &Value) -> Vec<f32> {
    let (positions, vocab) = (logits.shape()[1], logits.shape()[2]);
    let sequences = logits.real().unwrap_or(&[]).chunks_exact(positions * vocab);
    let term =
        |logits: &[f32], term: &LogitTerm| term.factor * logits[term.position * vocab + term.token as usize];
    sequences.map(|logits| terms.iter().map(|t| term(logits, t)).sum()).collect()
}

fn empty_layers(shape: &SubjectShape) -> Vec<LayerRouting> {
    let routed = shape.feed_forward.iter().enumerate().filter_map(|(layer, shape)| match shape {
        FeedForwardShape::Routed { experts, per_token, .. } => Some((layer, *experts, *per_token)),
        FeedForwardShape::Dense { .. } => None,
    });
    let empty = |(layer, experts, per_token)| LayerRouting {
        layer,
        experts,
        per_token,
        choices: Vec::new(),
        weights: Vec::new(),
        entropy: Vec::new(),
        margin: Vec::new(),
        relative_margin: Vec::new(),
    };
    routed.map(empty).collect()
}

fn append(layer: &mut LayerRouting, seen: &Observation) -> Result<(), TraceError> {
    let value = |site| {
        let point = HookPoint::block(site, layer.layer);
        seen.values.get(&point).ok_or(TraceError::NotRecorded { name: point.to_string() })
    };
    let real = |site| value(site).map(|v: &Value| v.real().unwrap_or(&[]).to_vec());
    let scores = real(Site::RouterScores)?;
    let weights = real(Site::RouterWeights)?;
    let indices = value(Site::RouterIndices)?.integer().unwrap_or(&[]);
    let choices: Vec<u32> = indices.iter().map(|e| u32::try_from(*e).unwrap_or(u32::MAX)).collect();
    let missing = |site| TraceError::NotRecorded { name: HookPoint::block(site, layer.layer).to_string() };
    let margins = margins(&seen.values, layer.layer).ok_or_else(|| missing(Site::RouterSelect))?;
    let relative = relative_margins(&seen.values, layer.layer).ok_or_else(|| missing(Site::RouterLogits))?;
    layer.margin.extend(margins);
    layer.relative_margin.extend(relative);
    layer.entropy.extend(scores.chunks_exact(layer.experts).map(entropy));
    layer.choices.extend(choices);
    layer.weights.extend(weights);
    Ok(())
}

/// Entropy in nats of scores divided by their sum.
fn entropy(scores: &[f32]) -> f32 {
    let total: f64 = scores.iter().map(|s| f64::from(*s)).sum();
    let shares = scores.iter().map(|s| f64::from(*s) / total);
    shares.map(|p| if p == 0.0 { 0.0 } else { -p * p.ln() }).sum::<f64>() as f32
}

fn check_batch(tokens: &Tokens, table: &TokenTable) -> Result<(), TraceError> {
    match table.ids == tokens.ids() {
        true => Ok(()),
        false => Err(inconsistent("a batch's token table", table.len(), "the ids of the batch, in order")),
    }
}

fn divided(point: HookPoint, value: &Value, count: f32) -> Result<Value, TraceError> {
    let numbers = value.real().unwrap_or(&[]).iter().map(|g| g / count).collect();
    let rows = value.rows().map(<[u32]>::to_vec);
    Value::new(point, value.shape().to_vec(), moescope_base::ValueData::Real(numbers), rows)
        .map_err(|error| inconsistent(&error.to_string(), 0, "a gradient of its value's shape"))
}

/// Every point is there, and values that have one row for each token have as many as the batch.
fn check_complete(
    points: &[HookPoint],
    values: &BTreeMap<HookPoint, Value>,
    tokens: &Tokens,
) -> Result<(), TraceError> {
    for point in points {
        let Some(value) = values.get(point) else {
            return Err(TraceError::NotRecorded { name: point.to_string() });
        };
        let leading = &value.shape()[..2];
        let wanted = [tokens.batch(), tokens.positions()];
        let by_token = point.site().axes()[..2] == [moescope_base::Axis::Batch, moescope_base::Axis::Pos];
        if by_token && leading != wanted {
            let found = leading.iter().product();
            return Err(inconsistent(&point.to_string(), found, format!("leading axes {wanted:?}")));
        }
    }
    Ok(())
}

fn inconsistent(what: &str, found: usize, wanted: impl Into<String>) -> TraceError {
    TraceError::Inconsistent { what: what.into(), found: format!("{found} entries"), wanted: wanted.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Planted, batch};

    #[test]
    fn entropy_by_hand() {
        assert!((entropy(&[0.25; 4]) - 4f32.ln()).abs() < 1e-6);
        assert!((entropy(&[2.0, 2.0]) - 2f32.ln()).abs() < 1e-6, "scores need not sum to one");
        assert_eq!(entropy(&[1.0, 0.0]), 0.0);
        assert!(entropy(&[f32::NAN; 2]).is_nan());
    }

    #[test]
    fn routes_of_batches_are_joined_in_order() {
        let mut subject = Planted::new();
        let trace = record_routing(&mut subject, [batch(&[0, 1, 2, 3]), batch(&[3, 2, 1, 0])]).unwrap();
        assert_eq!(trace.tokens().ids, [0, 1, 2, 3, 3, 2, 1, 0]);
        let layer = &trace.layers()[0];
        assert_eq!((layer.layer, layer.experts, layer.per_token), (1, 4, 2));
        assert_eq!(layer.chosen(1), [1, 2]);
        assert_eq!(layer.chosen(4), [3, 0]);
        assert!((layer.margin[0] - 0.2).abs() < 1e-6);
        assert_eq!(layer.weights[..2], [0.6, 0.3]);
        // Logits 3, 2, 1, 0 in the order of the scores: one unit between the second and the third, of twice three.
        assert_eq!(layer.relative_margin, [1.0 / 6.0; 8]);
    }

    #[test]
    fn a_table_of_other_tokens_is_refused() {
        let (tokens, _) = batch(&[0, 1, 2, 3]);
        let (_, table) = batch(&[0, 1, 2, 2]);
        assert!(record_routing(&mut Planted::new(), [(tokens, table)]).is_err());
    }

    #[test]
    fn gradients_become_those_of_the_mean() {
        let (tokens, _) = batch(&[0, 1, 2, 3]);
        let point = HookPoint::block(Site::RouterScores, 1);
        let seen = record_tensors(&mut Planted::new(), &tokens, &[point], &[], &[point]).unwrap();
        assert_eq!(seen.loss.len(), 3);
        assert_eq!(seen.gradients[&point].real().unwrap()[0], 0.6 / 3.0);
        assert!(seen.values.contains_key(&HookPoint::global(Site::Logits)));
    }
}
