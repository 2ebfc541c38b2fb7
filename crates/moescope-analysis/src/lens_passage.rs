//! What the logit lens reads of one passage, token by token and block by block.

use moescope_base::{Column, Figure, FigureKind, HookPoint, Request, Site, Table};

use crate::AnalysisError;
use crate::depth::spread_over;
use crate::instrument::Material;
use crate::matrix::Features;
use crate::neuron_profile::plain;
use crate::next_token::surest;

/// Predictions that are told, at most.
const TOKENS: usize = 32;
/// Blocks that are told, at most.
const LAYERS: usize = 12;

/// The most probable next token after each block, of one passage drawn at random.
///
/// - **Shape:** a row for each block and token; before them what comes.
/// - **Unit:** `probability` of the token under the lens, 0 to 1.
/// - **Null:** none: a passage illustrates, [`logit_lens`](crate::logit_lens()) measures.
/// - **Does not show:** what the model would say if it stopped there: later blocks read the stream otherwise than the unembedding does.
/// - **Source:** nostalgebraist 2020, interpreting GPT: the logit lens.
pub(crate) struct Passage {
    layers: Vec<usize>,
    /// The token that comes after each, `[token]`.
    coming: Vec<u32>,
    /// Most probable token and its probability, `[layer][token]`.
    read: Vec<Vec<(u32, f64)>>,
}

impl Passage {
    /// Of the beginning of a sequence; `None` where that has no second token.
    ///
    /// # Errors
    /// If the subject cannot answer or leaves out a value.
    pub(crate) fn drawn(material: &mut Material<'_>) -> Result<Option<Passage>, AnalysisError> {
        let depth = material.subject.shape().layers();
        // The end is what the others are held against.
        let before = spread_over(depth, LAYERS).filter(|layer| *layer + 1 < depth);
        let layers: Vec<usize> = before.chain([depth - 1]).collect();
        let samples = material.some_samples("passage of the lens", 1)?;
        let Some(sample) = samples.first() else { return Ok(None) };
        let ids = sample.tokens().ids();
        let count = TOKENS.min(sample.tokens().positions().saturating_sub(1));
        if count == 0 {
            return Ok(None);
        }
        let points: Vec<HookPoint> =
            layers.iter().map(|layer| HookPoint::block(Site::ResidPost, *layer)).collect();
        let seen = material.subject.run(&Request::recording(sample.tokens(), &points))?;
        let rows: Vec<usize> = (0..count).collect();
        let mut read = Vec::new();
        for point in &points {
            let value = seen.values.get(point).ok_or(AnalysisError::NotRecorded { point: *point })?;
            let logits = material.subject.unembed(&Features::of_value(value)?.select(&rows).to_single())?;
            read.push(logits.chunks_exact(logits.len() / count).map(surest).collect());
        }
        Ok(Some(Passage { layers, coming: ids[1..=count].to_vec(), read }))
    }

    /// Block from which on each token has the prediction of the end.
    fn settled(&self) -> Vec<usize> {
        let last = self.layers.len() - 1;
        let from = |token: usize| {
            let same = |at: &usize| self.read[*at][token].0 == self.read[last][token].0;
            let first = (0..last).rev().take_while(same).last().unwrap_or(last);
            self.layers[first]
        };
        (0..self.coming.len()).map(from).collect()
    }

    /// What a prediction agrees with.
    fn mark(&self, at: usize, token: usize) -> &'static str {
        let (read, end) = (self.read[at][token].0, self.read[self.layers.len() - 1][token].0);
        match (read == self.coming[token], read == end) {
            (true, _) => "what comes",
            (false, true) if at + 1 < self.layers.len() => "what the end predicts",
            _ => "",
        }
    }

    /// # Errors
    /// If the columns make no table.
    pub(crate) fn table(&self, material: &Material<'_>) -> Result<Table, AnalysisError> {
        let count = self.coming.len();
        let (mut names, mut words, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        let mut values = vec![f64::NAN; count];
        names.extend(std::iter::repeat_n("what comes".to_owned(), count));
        words.extend(self.coming.iter().map(|id| plain(*id, material)));
        marks.extend(std::iter::repeat_n(String::new(), count));
        for (at, layer) in self.layers.iter().enumerate() {
            names.extend(std::iter::repeat_n(format!("after block {layer}"), count));
            words.extend(self.read[at].iter().map(|(id, _)| plain(*id, material)));
            marks.extend((0..count).map(|token| self.mark(at, token).to_owned()));
            values.extend(self.read[at].iter().map(|(_, probability)| *probability));
        }
        let positions = (0..=self.layers.len()).flat_map(|_| 1..=count as i64).collect();
        let columns = vec![
            Column::key("passage", "the block, or what comes", names),
            Column::integer_key("position", "", "place in the sequence, counted from 0", positions),
            Column::key("token", "the most probable token", words),
            Column::key("mark", "what it agrees with", marks),
            Column::estimate("probability", "probability", "of that token under the lens", values),
        ];
        let method = "Final norm and unembedding applied to the stream after blocks spread over the depth, for the beginning of one sequence drawn at \
                      random. It illustrates; `logit_lens` measures.";
        Ok(Table::new(
            "logit_lens_passage",
            "What the lens reads of a passage, block by block",
            method,
            columns,
        )?)
    }

    /// The predictions of each block as text.
    pub(crate) fn figure(&self) -> Figure {
        let mut settled = self.settled();
        settled.sort_unstable();
        let (half, last) = (settled[(settled.len() - 1) / 2], self.layers[self.layers.len() - 1]);
        Figure {
            id: "logit_lens_passage".into(),
            title: format!(
                "In a passage of {} tokens half have their last prediction from block {half} of {last} on",
                settled.len()
            ),
            caption: "The token that each block would predict next if it were the last, at every place of one passage; the first line is what comes. \
                      Marked where it is what comes, or what the end predicts."
                .into(),
            table: "logit_lens_passage".into(),
            kind: FigureKind::Passages {
                passage: "passage".into(),
                text: "token".into(),
                mark: "mark".into(),
                value: "probability".into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage() -> Passage {
        let read = |ids: [u32; 3]| ids.map(|id| (id, 0.5)).to_vec();
        Passage {
            layers: vec![0, 2, 5],
            coming: vec![1, 2, 3],
            read: vec![read([1, 7, 4]), read([1, 8, 9]), read([1, 8, 4])],
        }
    }

    #[test]
    fn a_passage_by_hand() {
        let passage = passage();
        // The third token had the last prediction once before, and lost it.
        assert_eq!(passage.settled(), [0, 2, 5]);
        assert_eq!(
            (passage.mark(0, 0), passage.mark(1, 1), passage.mark(0, 1)),
            ("what comes", "what the end predicts", "")
        );
        assert_eq!((passage.mark(2, 1), passage.mark(2, 2)), ("", ""));
        assert!(
            passage
                .figure()
                .title
                .contains("of 3 tokens half have their last prediction from block 2 of 5 on")
        );
    }
}
