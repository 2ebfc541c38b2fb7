//! Values that wait until a part is full.

use std::collections::BTreeMap;
use std::path::Path;

use moescope_base::{Axis, HookPoint, Tokens, Value, ValueData};
use moescope_host::write_tensors;

use super::margins::{Margins, Seen};
use super::rows::{Rows, push};
use super::run::CorpusWindow;
use crate::tensor_file::Entry;
use crate::{Export, Recording, TraceError, write_recording};

/// The values of some windows, in their order.
///
/// Windows are put in one by one, so that a part is the same however many of them were in one pass.
#[derive(Debug, Default)]
pub(super) struct Part {
    windows: Vec<CorpusWindow>,
    /// Of a whole recording: rows, and for single experts their tokens in the part.
    whole: BTreeMap<HookPoint, (Rows, Vec<u32>)>,
    loss: Vec<f32>,
    /// Of a sample: rows of the drawn tokens, and which these are.
    drawn: BTreeMap<HookPoint, Rows>,
    origins: Vec<[u32; 3]>,
    margins: Margins,
}

impl Part {
    /// Windows so far.
    pub(super) fn windows(&self) -> usize {
        self.windows.len()
    }

    /// Puts in all values of a window, the `index`-th of its pass.
    pub(super) fn put_whole(&mut self, window: &CorpusWindow, index: usize, seen: &Seen) {
        let positions = window.ids.len();
        let first = self.windows.len() * positions;
        for (point, value) in &seen.kept.values {
            let entry = self.whole.entry(*point).or_insert_with(|| (Rows::none_of(value), Vec::new()));
            let (rows, tokens) = entry;
            match value.rows() {
                None => {
                    let length = value.data().len() / value.shape()[0];
                    push(&mut rows.data, value.data(), index * length..(index + 1) * length);
                }
                Some(of) => {
                    // The rows of an expert stand in the order of its tokens.
                    let from = of.partition_point(|token| (*token as usize) < index * positions);
                    let to = of.partition_point(|token| (*token as usize) < (index + 1) * positions);
                    let width = rows.width();
                    push(&mut rows.data, value.data(), from * width..to * width);
                    let moved = |token: &u32| (*token as usize - index * positions + first) as u32;
                    tokens.extend(of[from..to].iter().map(moved));
                }
            }
        }
        let losses = index * (positions - 1)..(index + 1) * (positions - 1);
        self.loss.extend_from_slice(&seen.kept.loss[losses]);
        self.margins.put(seen, index * positions..(index + 1) * positions);
        self.windows.push(window.clone());
    }

    /// Puts in the rows of a window's drawn tokens; values of single experts are not kept here.
    pub(super) fn put_drawn(&mut self, window: &CorpusWindow, index: usize, drawn: &[u32], seen: &Seen) {
        for (point, value) in seen.kept.values.iter().filter(|(point, _)| !point.site().in_expert()) {
            let rows = self.drawn.entry(*point).or_insert_with(|| Rows::none_of(value));
            for position in drawn {
                rows.push_token(value, index * window.ids.len() + *position as usize);
            }
        }
        self.margins.put(seen, drawn.iter().map(|position| index * window.ids.len() + *position as usize));
        let origin = |at: &u32| [window.document, window.start + at, window.ids[*at as usize]];
        self.origins.extend(drawn.iter().map(origin));
        self.windows.push(window.clone());
    }

    /// Writes the part and empties it.
    pub(super) fn flush(&mut self, path: &Path, whole: bool) -> Result<(), TraceError> {
        let part = std::mem::take(self);
        if whole { part.write_whole(path) } else { part.write_drawn(path) }
    }

    /// A file of the form of `moescope record`, with the windows' places.
    fn write_whole(self, path: &Path) -> Result<(), TraceError> {
        let (batch, positions) = (self.windows.len(), self.windows[0].ids.len());
        let ids = self.windows.iter().flat_map(|window| &window.ids).copied().collect();
        let place = |name: &str, number: fn(&CorpusWindow) -> u32| Export {
            name: format!("window.{name}"),
            shape: vec![batch],
            data: ValueData::Integer(self.windows.iter().map(|w| i64::from(number(w))).collect()),
        };
        let places = [place("document", |w| w.document), place("start", |w| w.start)];
        let exports: Vec<Export> =
            places.into_iter().chain(self.margins.exports(&[batch, positions])).collect();
        let value = |(point, (rows, tokens)): (HookPoint, (Rows, Vec<u32>))| {
            let axes = point.site().axes();
            let mut shape = match axes {
                [Axis::Row, ..] => vec![tokens.len()],
                [Axis::Batch, Axis::Head, ..] => vec![batch, rows.shape[0], positions],
                _ => vec![batch, positions],
            };
            shape.extend(if axes[1] == Axis::Head { &rows.shape[1..] } else { &rows.shape[..] });
            let tokens = (axes[0] == Axis::Row).then_some(tokens);
            let value =
                Value::new(point, shape, rows.data, tokens).expect("windows have the axes of their site");
            (point, value)
        };
        let recording = Recording {
            tokens: Tokens::new(ids, batch, positions)?,
            values: self.whole.into_iter().map(value).collect(),
            gradients: BTreeMap::new(),
            loss: self.loss,
            objective: None,
        };
        write_recording(path, &recording, &exports)
    }

    /// The drawn rows under their hook names, and where they come from.
    fn write_drawn(self, path: &Path) -> Result<(), TraceError> {
        let rows = self.origins.len();
        let mut tensors: Vec<(String, Entry<'static>)> = Vec::new();
        for (point, values) in self.drawn {
            let shape = [&[rows][..], &values.shape].concat();
            tensors.push((point.to_string(), Entry::of(shape, values.data)));
        }
        let margins = self.margins.exports(&[rows]);
        tensors.extend(margins.map(|margin| (margin.name, Entry::of(margin.shape, margin.data))));
        for (column, name) in ["document", "position", "token_id"].into_iter().enumerate() {
            let numbers = self.origins.iter().map(|origin| i64::from(origin[column])).collect();
            tensors.push((format!("rows.{name}"), Entry::of(vec![rows], ValueData::Integer(numbers))));
        }
        Ok(write_tensors(path, tensors, None)?)
    }
}
