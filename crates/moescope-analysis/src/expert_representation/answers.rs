//! Tokens that experts are asked about, and what they answer.

use moescope_base::{
    Edit, FeedForwardShape, HookPoint, Request, RouteEdit, Site, Subject, SubjectShape, row_tokens,
};
use rand::seq::SliceRandom;

use crate::instrument::Material;
use crate::matrix::Features;
use crate::sequences::drawn;
use crate::{AnalysisError, Sample, check};

/// Sequences that tokens are drawn from, at most, of as many documents as there are.
pub(crate) const SEQUENCES: usize = 64;

/// Tokens that all experts answer, the same for every layer and model.
pub(crate) struct Asked {
    /// The sequences that they stand in.
    pub(crate) samples: Vec<Sample>,
    /// Places of the tokens in each sample, ascending.
    places: Vec<Vec<usize>>,
    /// Their documents: `[token]`.
    pub(crate) documents: Vec<u32>,
}

impl Asked {
    /// At most so many tokens of the text, drawn at random; first tokens of sequences are left out, on which models put very long vectors.
    ///
    /// # Errors
    /// With fewer than eight tokens.
    pub(crate) fn drawn(
        material: &Material<'_>,
        label: &'static str,
        tokens: usize,
    ) -> Result<Asked, AnalysisError> {
        let samples = drawn(material, label, SEQUENCES)?;
        let mut all: Vec<(usize, usize)> = Vec::new();
        for (at, sample) in samples.iter().enumerate() {
            let positions = sample.tokens().positions();
            let later = (0..sample.tokens().len()).filter(|place| place % positions > 0);
            all.extend(later.map(|place| (at, place)));
        }
        all.shuffle(&mut material.seed.child(label).child("tokens").rng());
        all.truncate(tokens);
        check::at_least(label, "tokens after the first of a sequence", all.len(), 8)?;
        all.sort_unstable();
        let documents = all.iter().map(|(at, place)| samples[*at].documents()[*place]).collect();
        let mut places = vec![Vec::new(); samples.len()];
        all.into_iter().for_each(|(at, place)| places[at].push(place));
        Ok(Asked { samples, places, documents })
    }

    /// What the experts of a layer read at these tokens: `[token, d_model]`.
    ///
    /// # Errors
    /// If the subject cannot answer.
    pub(crate) fn input(&self, subject: &mut dyn Subject, layer: usize) -> Result<Features, AnalysisError> {
        let point = HookPoint::block(Site::MlpIn, layer);
        let mut found = self.recorded(subject, &[point], None)?;
        found.pop().ok_or(AnalysisError::NotRecorded { point })
    }

    /// What so many experts as a token chooses answer to these tokens: `[expert][token, d_model]`, before their routing weight.
    ///
    /// # Errors
    /// If the subject cannot answer, or the layer has no such experts.
    pub(crate) fn answers(
        &self,
        subject: &mut dyn Subject,
        layer: usize,
        experts: &[usize],
    ) -> Result<Vec<Features>, AnalysisError> {
        let points: Vec<HookPoint> =
            experts.iter().map(|expert| HookPoint::expert(Site::ExpertOut, layer, *expert)).collect();
        let (all, per_token) = routed(subject.shape(), layer);
        // Places that are left in the choice are filled with experts that nobody looks at.
        let others = (0..all).filter(|expert| !experts.contains(expert));
        let set: Vec<u32> =
            experts.iter().copied().chain(others).take(per_token).map(|expert| expert as u32).collect();
        self.recorded(subject, &points, Some((layer, &set)))
    }

    /// Values at these tokens; with a set, every token of the layer is sent there.
    fn recorded(
        &self,
        subject: &mut dyn Subject,
        points: &[HookPoint],
        sent: Option<(usize, &[u32])>,
    ) -> Result<Vec<Features>, AnalysisError> {
        let width = subject.shape().d_model;
        let mut values = vec![Vec::new(); points.len()];
        for (sample, places) in self.samples.iter().zip(&self.places) {
            let edits: Vec<Edit> = sent
                .iter()
                .map(|(layer, set)| Edit::Route {
                    layer: *layer as u32,
                    change: RouteEdit::Replay { choices: set.repeat(sample.tokens().len()) },
                })
                .collect();
            let request = Request { edits: &edits, ..Request::recording(sample.tokens(), points) };
            let seen = subject.run(&request)?;
            for (values, point) in values.iter_mut().zip(points) {
                let missing = AnalysisError::NotRecorded { point: *point };
                let Some(value) = seen.values.get(point) else { return Err(missing) };
                let (tokens, rows) = (row_tokens(value), value.real().unwrap_or_default());
                for place in places {
                    // An expert may name its tokens in an order of its own.
                    let Some(row) = tokens.iter().position(|token| *token as usize == *place) else {
                        return Err(AnalysisError::NotRecorded { point: *point });
                    };
                    values.extend(rows[row * width..(row + 1) * width].iter().map(|x| f64::from(*x)));
                }
            }
        }
        values.iter().map(|values| Features::new(width, values)).collect()
    }
}

/// Experts of a layer, and how many of them a token chooses; none of a dense layer.
pub(crate) fn routed(shape: &SubjectShape, layer: usize) -> (usize, usize) {
    match shape.feed_forward[layer] {
        FeedForwardShape::Routed { experts, per_token, .. } => (experts, per_token),
        FeedForwardShape::Dense { .. } => (0, 0),
    }
}

/// At most so many of the routed layers, evenly spaced, the last among them.
pub(crate) fn layers(shape: &SubjectShape, most: usize) -> Vec<usize> {
    let all = shape.routed_layers();
    let count = all.len().min(most);
    (1..=count).map(|at| all[at * all.len() / count - 1]).collect()
}

/// Values of the widest pass, for plans of memory: what a layer reads and adds, and the answers of as many experts as a token chooses.
pub fn looked_at(shape: &SubjectShape) -> Vec<HookPoint> {
    let Some(layer) = shape.routed_layers().last().copied() else { return Vec::new() };
    let mut points = vec![HookPoint::block(Site::MlpIn, layer), HookPoint::block(Site::RoutedOut, layer)];
    points.extend((0..routed(shape, layer).0).map(|e| HookPoint::expert(Site::ExpertOut, layer, e)));
    points
}
