//! The passes: undisturbed, disturbed, and with one vector of each case restored.

use moescope_base::{
    Edit, FeedForwardShape, HookPoint, Observation, Request, RouteEdit, Seed, Site, Subject, SubjectShape,
    TokenSelection, ValueEdit,
};

use super::cases::{Case, noise, probability};
use super::{Place, Restored};
use crate::next_token::logits_point;
use crate::recorded::{real, value, vector_if_here};
use crate::route_patch::chosen;
use crate::{AnalysisError, Sample};

/// The undisturbed pass, with all that can be restored.
pub(super) fn clean(
    subject: &mut dyn Subject,
    sample: &Sample,
    layers: &[usize],
) -> Result<Observation, AnalysisError> {
    let record = looked_at(subject.shape(), layers);
    Ok(subject.run(&Request::recording(sample.tokens(), &record))?)
}

/// What the undisturbed pass keeps.
pub(super) fn looked_at(shape: &SubjectShape, layers: &[usize]) -> Vec<HookPoint> {
    let mut points = vec![logits_point(), HookPoint::global(Site::Embed)];
    points.extend(shape.routed_layers().iter().map(|layer| HookPoint::block(Site::RouterIndices, *layer)));
    for layer in layers {
        let whole = [Site::ResidPost, Site::MlpOut, Site::AttnOut];
        points.extend(whole.map(|site| HookPoint::block(site, *layer)));
        points.extend(writes(shape, *layer));
        points.extend(heads(shape, *layer));
    }
    points
}

/// What the heads of a layer have gathered, where they are values of their own.
fn heads(shape: &SubjectShape, layer: usize) -> Option<HookPoint> {
    super::has_heads(shape).then(|| HookPoint::block(Site::AttnZ, layer))
}

/// What each expert of a layer adds; nothing of a dense layer.
fn writes(shape: &SubjectShape, layer: usize) -> Vec<HookPoint> {
    let experts = match shape.feed_forward[layer] {
        FeedForwardShape::Routed { experts, .. } => experts,
        FeedForwardShape::Dense { .. } => 0,
    };
    (0..experts).map(|expert| HookPoint::expert(Site::ExpertOutWeighted, layer, expert)).collect()
}

/// The disturbed pass of some cases, at most one in each sequence, ready to have vectors restored.
pub(super) struct Stage<'a> {
    sample: &'a Sample,
    clean: &'a Observation,
    cases: &'a [Case],
    heads: usize,
    /// Noise, and held routes if they are.
    edits: Vec<Edit>,
    seen: Observation,
    /// Probability of each case's target under the noise.
    pub(super) disturbed: Vec<f64>,
}

impl<'a> Stage<'a> {
    /// Disturbs the subject of every case.
    pub(super) fn observe(
        subject: &mut dyn Subject,
        sample: &'a Sample,
        (clean, layers): (&'a Observation, &'a [usize]),
        cases: &'a [Case],
        held: bool,
        seed: Seed,
    ) -> Result<Stage<'a>, AnalysisError> {
        let routed = subject.shape().routed_layers();
        let mut rows: Vec<usize> = cases.iter().flat_map(|case| case.span.iter().copied()).collect();
        rows.sort_unstable();
        let mut edits = vec![noise(clean, &rows, seed)?];
        if held {
            for layer in &routed {
                let choices = chosen(clean, *layer)?.0;
                edits.push(Edit::Route { layer: *layer as u32, change: RouteEdit::Replay { choices } });
            }
        }
        let mut record = vec![logits_point()];
        for layer in layers.iter().filter(|layer| routed.contains(layer)) {
            record.push(HookPoint::block(Site::RoutedOut, *layer));
            record.extend(writes(subject.shape(), *layer));
        }
        record.extend(layers.iter().filter_map(|layer| heads(subject.shape(), *layer)));
        let seen = subject.run(&Request { edits: &edits, ..Request::recording(sample.tokens(), &record) })?;
        let (heads, disturbed) = (subject.shape().heads, probabilities(&seen, cases)?);
        Ok(Stage { sample, clean, cases, heads, edits, seen, disturbed })
    }

    /// By how much each target's probability rises when a vector is restored: to its own undisturbed value, or to a foreign one, that of
    /// the next case.
    ///
    /// One pass restores a vector in every case at once, since no two cases stand in one sequence. The
    /// foreign vector is an undisturbed one as well: what both restore is owed to any undisturbed vector at
    /// this place, and only the rest to what this one says.
    pub(super) fn restore(
        &self,
        subject: &mut dyn Subject,
        (layer, restored, place): (usize, Restored, Place),
        foreign: bool,
    ) -> Result<Vec<f64>, AnalysisError> {
        let row = |case: &Case| match place {
            Place::Subject => *case.span.last().expect("a subject has a token"),
            Place::Reader => case.reader,
        };
        let rows: Vec<usize> = self.cases.iter().map(row).collect();
        let sources: Vec<usize> = (0..rows.len())
            .map(|case| if foreign { rows[(case + 1) % rows.len()] } else { rows[case] })
            .collect();
        let (at, vectors) = match restored {
            Restored::Stream => self.whole(HookPoint::block(Site::ResidPost, layer), &sources)?,
            Restored::FeedForward => self.whole(HookPoint::block(Site::MlpOut, layer), &sources)?,
            Restored::Attention => self.whole(HookPoint::block(Site::AttnOut, layer), &sources)?,
            Restored::Expert => self.one_expert(layer, &rows, &sources)?,
            Restored::Head(head) => {
                self.one_head(HookPoint::block(Site::AttnZ, layer), head, &rows, &sources)?
            }
        };
        // At most one case stands in a sequence, so rows ascend as cases do.
        let tokens = TokenSelection::Rows(rows.iter().map(|row| *row as u32).collect());
        let mut edits = self.edits.clone();
        edits.push(Edit::Value { at, tokens, change: ValueEdit::Patch { rows: vectors } });
        let point = [logits_point()];
        let request = Request { edits: &edits, ..Request::recording(self.sample.tokens(), &point) };
        let found = probabilities(&subject.run(&request)?, self.cases)?;
        Ok(found.iter().zip(&self.disturbed).map(|(restored, disturbed)| restored - disturbed).collect())
    }

    /// Undisturbed vectors of some tokens.
    fn whole(&self, at: HookPoint, sources: &[usize]) -> Result<(HookPoint, Vec<f32>), AnalysisError> {
        let (vectors, width) = (real(self.clean, at)?, value(self.clean, at)?.columns());
        Ok((at, sources.iter().flat_map(|row| &vectors[row * width..(row + 1) * width]).copied().collect()))
    }

    /// What all heads gathered under the noise, with what one of them gathers exchanged for that of each source.
    fn one_head(
        &self,
        at: HookPoint,
        head: usize,
        rows: &[usize],
        sources: &[usize],
    ) -> Result<(HookPoint, Vec<f32>), AnalysisError> {
        let (mut vectors, width) = (Vec::new(), value(&self.seen, at)?.columns());
        let own = head * (width / self.heads)..(head + 1) * (width / self.heads);
        let (disturbed, clean) = (real(&self.seen, at)?, real(self.clean, at)?);
        for (row, source) in rows.iter().zip(sources) {
            let mut vector = disturbed[row * width..(row + 1) * width].to_vec();
            vector[own.clone()].copy_from_slice(&clean[source * width..(source + 1) * width][own.clone()]);
            vectors.extend(vector);
        }
        Ok((at, vectors))
    }

    /// The disturbed sum over the chosen experts, with what one of them adds exchanged: the first of each source.
    fn one_expert(
        &self,
        layer: usize,
        rows: &[usize],
        sources: &[usize],
    ) -> Result<(HookPoint, Vec<f32>), AnalysisError> {
        let at = HookPoint::block(Site::RoutedOut, layer);
        let (sums, width) = (real(&self.seen, at)?, value(&self.seen, at)?.columns());
        let (choices, per_token) = chosen(self.clean, layer)?;
        let mut vectors = Vec::with_capacity(rows.len() * width);
        for (row, source) in rows.iter().zip(sources) {
            let point =
                HookPoint::expert(Site::ExpertOutWeighted, layer, choices[source * per_token] as usize);
            let new = vector_if_here(self.clean, point, *source)?;
            let old = vector_if_here(&self.seen, point, *row)?;
            for (column, sum) in sums[row * width..(row + 1) * width].iter().enumerate() {
                let of = |vector: Option<&[f32]>| vector.map_or(0.0, |vector| vector[column]);
                vectors.push(sum + of(new) - of(old));
            }
        }
        Ok((at, vectors))
    }
}

fn probabilities(seen: &Observation, cases: &[Case]) -> Result<Vec<f64>, AnalysisError> {
    let (logits, vocab) = (real(seen, logits_point())?, value(seen, logits_point())?.columns());
    let of = |case: &Case| probability(&logits[case.reader * vocab..(case.reader + 1) * vocab], case.target);
    Ok(cases.iter().map(of).collect())
}
